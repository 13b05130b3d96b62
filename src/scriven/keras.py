"""`GPT(...).compile(...)`, `.fit(...)`: the same training in the style of Keras."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from . import config, registry
from .data.memory import Naming, as_files
from .errors import InputError, SettingError, for_python
from .evaluate.loss import Metric
from .model import Model, trained_model
from .runs.folder import create_run_dir
from .tasks.base import Criterion
from .tokenizers import Tokenizer
from .train.optim.base import UserOptimizer
from .train.request import TrainRequest, UserComponents
from .train.run import start_or_resume
from .train.trackers.jsonl import read_events


@dataclass
class History:
    """Metrics of a training by name, as Keras returns them from `fit`."""

    history: dict[str, list[float]] = field(default_factory=dict)


@for_python
class GPT:
    """A language model that is not trained yet.

    Args:
        arch: the architecture, or a .py file.
        tokenizer: char, byte, word or bpe, or that of another model, `model.tokenizer`; chosen for
            the text by default.
        seed: of all random numbers.
        shape: fields of the architecture's Config: layers, heads, d_model, context_length, ...

    Raises:
        SettingError: an unknown field or an impossible shape.
    """

    def __init__(
        self,
        *,
        arch: str = "llama",
        tokenizer: str | Tokenizer | None = None,
        seed: int = 0,
        **shape: Any,
    ) -> None:
        module = registry.module("scriven.models", arch)
        # refuses a wrong shape here, and not at the first fit
        config.replace(module.Config(), shape, "model")
        self.arch, self.tokenizer, self.seed, self.shape = arch, tokenizer, seed, shape
        self.model: Model | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._components = UserComponents()
        self._settings: dict[str, object] = {}

    def compile(
        self,
        optimizer: str | UserOptimizer = "muon",
        loss: str | Criterion = "cross_entropy",
        metrics: Sequence[str | Metric] = ("accuracy",),
        lr: float | None = None,
    ) -> None:
        """Chooses how `fit` trains.

        Args:
            optimizer: muon, adamw, sgd, a .py file, or a function from parameters to a torch
                optimizer.
            loss: cross_entropy, or a function of logits (N, V) and targets (N,) that returns their
                mean, such as torch.nn.CrossEntropyLoss(label_smoothing=0.1).
            metrics: accuracy, perplexity, or functions of logits and targets that return a mean.
            lr: peak learning rate of a named optimizer.

        Raises:
            SettingError: an unknown name, or something that cannot be called.
        """
        self._settings = {} if lr is None else {"optim.lr": lr}
        # 1. the optimizer: a name is a setting of the run, a function is handed over in memory
        custom: UserOptimizer | None = None
        if isinstance(optimizer, str):
            known = registry.names("scriven.train.optim")
            if optimizer not in known and not optimizer.endswith(".py"):
                raise SettingError(f"optimizer {optimizer!r}: use {', '.join(known)}")
            self._settings["optim.optimizer"] = optimizer
        else:
            custom = optimizer
        # 2. the loss
        criterion = None if loss == "cross_entropy" else loss
        if criterion is not None and not callable(criterion):
            raise SettingError(f"loss {loss!r}: use cross_entropy, or a function")
        # 3. the metrics, by the name that `History` gives them
        named: dict[str, Metric] = {}
        for metric in metrics:
            if metric in ("accuracy", "perplexity"):
                continue  # always measured
            if not callable(metric):
                raise SettingError(f"metric {metric!r}: use accuracy, perplexity, or a function")
            named[_name(metric)] = metric
        self._components = UserComponents(optimizer=custom, criterion=criterion, metrics=named)

    def fit(
        self,
        *sources: Any,
        epochs: float | None = None,
        budget: str | None = None,
        batch_size: int | None = None,
        out: str | Path | None = None,
        quiet: bool = True,
        settings: Mapping[str, object] | None = None,
    ) -> History:
        """Trains on texts; a second call goes on with the weights and tokenizer of the first.

        Args:
            sources: files, folders, globs, a built-in corpus, or data in memory, such as a text, a
                list or iterator of texts, a frame, a data set, or an array of token ids.
            epochs: epochs over the text, 3 by default; or
            budget: any other budget, such as 10m.
            batch_size: sequences per optimizer step.
            out: the run folder; a temporary one by default, deleted with this object (see `save`).
            quiet: False prints progress.
            settings: any other setting, as in {"train.patience": 0}.

        Raises:
            ScrivenError: anything that cannot be done as asked.
        """
        if epochs is not None and budget is not None:
            raise SettingError("give epochs or a budget, not both")
        # 1. settings: those of the constructor, of compile, then of this call
        chosen = {f"model.{name}": value for name, value in self.shape.items()} | self._settings
        if batch_size is not None:
            chosen["train.batch_size"] = batch_size
        components = self._components
        if isinstance(self.tokenizer, Tokenizer):
            components = replace(components, tokenizer=self.tokenizer)
        elif self.tokenizer is not None:
            chosen["tokenizer.kind"] = self.tokenizer
        # 2. weights and tokenizer of an earlier fit
        if self.model is not None:
            # the run folder is new, so they are handed over in memory
            weights = {name: value.clone() for name, value in self.model.task.state_dict().items()}
            components = replace(components, weights=weights, tokenizer=self.model.tokenizer)
        # 3. the run folder; the object must live as long as the model, whose files it deletes
        if out is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="scriven-")
            out = Path(self._temporary.name) / "gpt"
        known = components.tokenizer
        with as_files(sources, Naming((), None if known is None else lambda: known)) as names:
            request = TrainRequest(
                sources=names,
                budget=budget or f"{3 if epochs is None else epochs}epochs",
                out=str(out),
                seed=self.seed,
                arch=self.arch,
                quiet=quiet,
                settings={**chosen, **(settings or {})},
            )
            self.model = trained_model(lambda: start_or_resume(request, components), self.arch)
        return History(_history(self.model.folder))

    def evaluate(self, *sources: Any) -> dict[str, Any]:
        """Loss, accuracy and the metrics of `compile`, on texts or on the validation set."""
        return self._fitted.evaluate(*sources, metrics=self._components.metrics)

    def generate(self, prompt: str = "", **sampling: Any) -> str:
        """The prompt and its continuation; parameters as in `Model.generate`."""
        return self._fitted.generate(prompt, **sampling)

    def save(self, out: str | Path) -> Path:
        """Copies the run folder, which `scriven.load` and every command can read.

        Raises:
            InputError: the folder holds something else.
        """
        folder = create_run_dir(Path(out))
        return Path(shutil.copytree(self._fitted.folder, folder, dirs_exist_ok=True))

    def parameters(self) -> list[torch.nn.Parameter]:
        """The trained weights."""
        return list(self._fitted.task.parameters())

    @property
    def _fitted(self) -> Model:
        if self.model is None:
            raise InputError("this model is not trained yet: call fit first")
        return self.model


def _name(metric: Callable[..., Any]) -> str:
    return str(getattr(metric, "__name__", type(metric).__name__))


def _history(folder: Path) -> dict[str, list[float]]:
    """The training and validation metrics of a run, as lists by name."""
    history: dict[str, list[float]] = {}
    for event in read_events(folder / "metrics.jsonl"):
        if event["event"] == "evaluation":
            named = {"val_loss": event["loss"], "val_accuracy": event["accuracy"]}
            for name, value in (event.get("metrics") or {}).items():
                named[f"val_{name}"] = value
        elif event["event"] == "step":
            named = {"loss": event["loss"], "accuracy": event["accuracy"]}
        else:
            continue
        for name, value in named.items():
            history.setdefault(name, []).append(value)
    return history
