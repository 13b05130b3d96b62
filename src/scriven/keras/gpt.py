"""The class `GPT`: build, compile, fit, evaluate, predict, save."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from ..data.memory import Naming, as_files
from ..errors import InputError, ScrivenError, SettingError, for_python
from ..evaluate.loss import Metric
from ..model import Model, load, trained_model
from ..notebook import card, is_interactive
from ..runs.folder import create_run_dir
from ..settings import Settings
from ..tasks.base import Criterion
from ..tokenizers import Tokenizer
from ..train.request import TrainRequest, UserComponents, read_overrides
from ..train.stopping import Interrupted
from .build import Buildable, fields_chosen
from .callbacks import Callback, EpochTracker, History, read_history
from .optimizers import OptimizerLike, resolve
from .validation import prepare_parts

HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


@for_python
class GPT(Buildable):
    """A language model that is not trained yet.

    Its weights exist from construction on where the shape and a `byte` or given tokenizer say how
    many there are; otherwise from `build`, or the first `fit`, which read a text. From then on
    they stay the same tensors, so an optimizer of torch can hold them.

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
        super().__init__(arch, tokenizer, seed, shape)
        self.model: Model | None = None
        """The trained model; None before the first `fit`."""
        self.stop_training = False
        """A callback sets this to end the training after the present epoch."""
        self.history: History | None = None
        """What the last `fit` returned."""
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._components = UserComponents()
        self._settings: dict[str, object] = {}

    @classmethod
    def load(cls, run: str | Path) -> "GPT":
        """The model of a run folder, to evaluate, use or fit further; `compile` it again first.

        Raises: as `scriven.load`; SettingError for a model that was fine-tuned for a task.
        """
        model = load(run)
        if "finetune" in model.metadata:
            raise SettingError(f"{run} is fine-tuned for a task: use scriven.load")
        gpt = cls(arch=model.architecture, tokenizer=None)
        gpt._use(model)
        return gpt

    # ------------------------------------------------------------------ weights

    def build(self, *sources: Any, settings: Mapping[str, object] | None = None) -> Self:
        """Makes the weights for a text, whose vocabulary decides how many there are.

        Args:
            sources, settings: as in `fit`, which then trains these weights.

        Raises:
            ScrivenError: a text that cannot be used, or an impossible shape.
        """
        with self._named(sources) as names:
            self._plan(names, "3epochs", self._fit_settings(None, None, settings))
        return self

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        """Replaces all weights, in the order of `parameters`.

        Raises:
            InputError: another number of arrays, or one of another shape.
        """
        super().set_weights(weights)
        if self.model is not None:  # its engine holds a copy for generation
            vars(self.model).pop("engine", None)

    # ------------------------------------------------------------------ training

    def compile(
        self,
        optimizer: OptimizerLike = "muon",
        loss: str | Criterion = "cross_entropy",
        metrics: Sequence[str | Metric] = ("accuracy",),
        lr: float | None = None,
    ) -> None:
        """Chooses how `fit` trains.

        Args:
            optimizer: muon, adamw, sgd, a .py file, any name or class of torch.optim, a function
                of the parameters, or an optimizer of torch that holds `parameters()`. With all but
                the first four an interrupted run is resumed from Python only, by the same `fit`.
            loss: cross_entropy, or a function of logits (N, V) and targets (N,) that returns their
                mean, such as torch.nn.CrossEntropyLoss(label_smoothing=0.1).
            metrics: accuracy, perplexity, or functions of logits and targets that return a mean.
            lr: peak learning rate of a name or class.

        Raises:
            SettingError: an unknown name, something that cannot be called, or an optimizer of
                other weights.
        """
        # 1. the optimizer: a name of ours is a setting of the run, all else is handed over
        self._settings, custom = resolve(optimizer, lr)
        if isinstance(custom, torch.optim.Optimizer):
            held = {id(weight) for group in custom.param_groups for weight in group["params"]}
            if self._task is None or not held <= {id(weight) for weight in self.parameters()}:
                raise SettingError(
                    "the optimizer moves weights of another model: make it of gpt.parameters()"
                )
        # 2. the loss
        if isinstance(loss, type) and issubclass(loss, torch.nn.Module):
            loss = loss()
        criterion: Any = None if loss == "cross_entropy" else loss
        if criterion is not None and not callable(criterion):
            raise SettingError(f"loss={loss!r}: use cross_entropy, or a function")
        # 3. the metrics, by the name that `History` gives them
        named: dict[str, Metric] = {}
        for metric in metrics:
            if metric in ("accuracy", "acc", "perplexity"):
                continue  # always measured
            if not callable(metric):
                raise SettingError(f"metrics={metric!r}: use accuracy, perplexity, or a function")
            named[str(getattr(metric, "__name__", type(metric).__name__))] = metric
        self._components = UserComponents(optimizer=custom, criterion=criterion, metrics=named)

    def fit(
        self,
        *sources: Any,
        epochs: float | None = None,
        batch_size: int | None = None,
        validation_split: float | None = None,
        validation_data: Any = None,
        callbacks: Sequence[Any] = (),
        verbose: Literal["auto", 0, 1, 2] = "auto",
        initial_epoch: int = 0,
        budget: str | None = None,
        out: str | Path | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> History:
        """Trains on texts, and keeps the weights of the best epoch; a second call goes on with
        weights and tokenizer. The same call with the same `out` resumes an interrupted run.

        Args:
            sources: files, folders, globs, a built-in corpus, or data in memory, such as a text, a
                list or iterator of texts, a frame, a data set, or an array of token ids.
            epochs: number of the last epoch, 3 by default; the validation part is measured after
                each, and no early stopping ends the training unless `train.patience` is set.
            batch_size: sequences per optimizer step.
            validation_split: fraction of the text that is held out, 0.1 by default; or
            validation_data: the texts to measure on; nothing else is held out then.
            callbacks: objects with methods of `Callback`.
            verbose: 0: prints nothing; 1: live progress; 2: a line for each epoch; auto: 1 in a
                notebook and a terminal, else 2.
            initial_epoch: number of the first epoch, for a training that goes on.
            budget: instead of epochs, as "10m"; an evaluation then counts as an epoch.
            out: the run folder; a temporary one by default, deleted with this object (see `save`).
            settings: any other setting, as in {"train.patience": 8}.

        Raises:
            ScrivenError: anything that cannot be done as asked.
            Interrupted: a KeyboardInterrupt; the weights so far stay, and another `fit` goes on.
        """
        chosen = self._fit_settings(batch_size, validation_split, settings)
        count = self._count_epochs(epochs, initial_epoch, budget)
        _check_callbacks(callbacks)
        with self._named(sources) as names:
            # 1. the texts: with validation_data, both parts as one folder of token files
            if validation_data is not None:
                if validation_split is not None:
                    raise SettingError("give validation_split or validation_data, not both")
                given = [validation_data]
                if isinstance(validation_data, list | tuple):
                    given = list(validation_data)
                with self._named(given) as held_out:
                    names = [str(self._prepare_parts(names, held_out, chosen))]
            # 2. the plan, which says how many steps an epoch has, and the weights
            plan = self._plan(names, budget or f"{count}epochs", chosen)
            chosen |= {f"model.{name}": each for name, each in fields_chosen(plan.model).items()}
            chosen["train.batch_size"] = plan.settings.train.batch_size
            numbers: tuple[int, int] | None = None
            if budget is None:
                assert plan.steps is not None
                per_epoch = max(1, round(plan.steps / count))
                numbers = (initial_epoch + int(count), per_epoch)
                budget = f"{max(1, round(count * per_epoch))}steps"
                chosen["train.eval_interval"] = per_epoch
                chosen.setdefault("train.patience", 0)
            # 3. the run folder; the object must live as long as the model, whose files it deletes
            if out is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="scriven-")
                out = Path(self._temporary.name) / "gpt"
            if verbose == "auto":
                verbose = 1 if is_interactive() else 2
            request = TrainRequest(
                sources=names, budget=budget, out=str(out), seed=self.seed, arch=self.arch,
                quiet=verbose != 1, settings=chosen,
            )  # fmt: skip
            self._train(request, numbers, callbacks, initial_epoch, prints=verbose == 2)
        self.history = read_history(Path(out), numbers)
        return self.history

    def _train(
        self,
        request: TrainRequest,
        epochs: tuple[int, int] | None,
        callbacks: Sequence[Any],
        initial_epoch: int,
        prints: bool,
    ) -> None:
        self.stop_training = False
        tracker = EpochTracker(self, callbacks, epochs, initial_epoch, prints)
        components = replace(self._components, base_task=self._task, tokenizer=self._given)
        optimizer = self._components.optimizer
        groups = getattr(optimizer, "param_groups", [])
        peaks = [group["lr"] for group in groups]
        try:
            run = trained_model(request, components, [tracker])
        except Interrupted as stopped:
            if stopped.folder is not None:
                with contextlib.suppress(ScrivenError):
                    self._use(load(stopped.folder, arch=self._own_file))
            raise
        finally:  # the schedule has lowered them; the next fit begins at the peak again
            for group, lr in zip(groups, peaks, strict=True):
                group["lr"] = lr
        self._use(run)

    # ------------------------------------------------------------------ use

    def evaluate(self, *sources: Any) -> dict[str, Any]:
        """Loss, accuracy and the metrics of `compile`, on texts or on the validation set."""
        return self._fitted.evaluate(*sources, metrics=self._components.metrics)

    def predict(self, texts: str | Sequence[str]) -> npt.NDArray[np.float32]:
        """Probabilities of the next token after each text.

        Args:
            texts: a text, or N of them.

        Returns:
            (N, V); `model.tokenizer.decode([id])` is the token of a column.
        """
        model = self._fitted
        texts, rows = [texts] if isinstance(texts, str) else list(texts), []
        limit = model.task.sequence_length
        for text in texts:
            # EOS stands before a text, as in training
            ids = [model.tokenizer.eos, *model.tokenizer.encode(text)][-limit:]
            with torch.no_grad():
                hidden = model.task.backbone(torch.tensor([ids], device=model.runtime.device))
                logits = model.task.logits(hidden[:, -1:])[0, 0]  # (V,)
            rows.append(logits.softmax(-1).cpu().numpy())
        return np.stack(rows) if rows else np.zeros((0, model.task.vocab_size), np.float32)

    def generate(self, prompt: str = "", **sampling: Any) -> str:
        """The prompt and its continuation; parameters as in `Model.generate`."""
        return self._fitted.generate(prompt, **sampling)

    def _repr_html_(self) -> str:
        if self.model is not None:
            return self.model._repr_html_()
        shape = ", ".join(f"{name} {value}" for name, value in self.shape.items())
        weights = "made by build or fit" if self._task is None else f"{self.count_params():,}"
        return card(f"GPT ({self.arch}), not trained", {"shape": shape, "weights": weights})

    def save(self, out: str | Path) -> Path:
        """Copies the run folder, which `GPT.load`, `scriven.load` and every command can read.

        Raises:
            InputError: the folder holds something else.
        """
        folder = create_run_dir(Path(out))
        return Path(shutil.copytree(self._fitted.folder, folder, dirs_exist_ok=True))

    # ------------------------------------------------------------------ parts of build and fit

    @property
    def _fitted(self) -> Model:
        if self.model is None:
            raise InputError("this model is not trained yet: call fit first")
        return self.model

    @property
    def _own_file(self) -> str | None:
        return self.arch if self.arch.endswith(".py") else None

    @contextlib.contextmanager
    def _named(self, sources: Sequence[Any]) -> Iterator[list[str]]:
        """Names of files for sources, some of which may be data in memory."""
        known = self._given
        naming = Naming((), None if known is None else lambda: known)
        with as_files(sources, naming) as names:
            yield names

    def _fit_settings(
        self,
        batch_size: int | None,
        validation_split: float | None,
        settings: Mapping[str, object] | None,
    ) -> dict[str, Any]:
        """Settings of the constructor, of compile, then of this call."""
        chosen = {f"model.{name}": value for name, value in self.shape.items()} | self._settings
        if batch_size is not None:
            chosen["train.batch_size"] = batch_size
        if validation_split is not None:
            chosen["data.val_fraction"] = validation_split
        if isinstance(self.tokenizer, str):
            chosen["tokenizer.kind"] = self.tokenizer
        return {**chosen, **(settings or {})}

    @staticmethod
    def _count_epochs(epochs: float | None, initial_epoch: int, budget: str | None) -> float:
        """Epochs to train."""
        if epochs is not None and budget is not None:
            raise SettingError("give epochs or a budget, not both")
        last = 3 if epochs is None else epochs
        if budget is None and not (0 <= initial_epoch < last):
            raise SettingError(
                f"epochs={last:g}: above initial_epoch={initial_epoch}, the number of the first one"
            )
        return last - initial_epoch

    def _prepare_parts(
        self, train: Sequence[str], validation: Sequence[str], chosen: dict[str, Any]
    ) -> Path:
        settings = read_overrides(TrainRequest(settings=chosen)).apply(Settings())
        return prepare_parts(train, validation, settings.data, settings.tokenizer, self._given)

    def _use(self, model: Model) -> None:
        """A trained model: its weights go into the tensors that exist already, if they do."""
        if self._task is None:
            self._task = model.task
            self._keep_shape()
        else:
            self._task.load_state_dict(model.task.state_dict())
            model.task = self._task.to(model.runtime.device).eval()
        self.model, self.tokenizer = model, model.tokenizer


def _check_callbacks(callbacks: Sequence[Any]) -> None:
    for callback in callbacks:
        if not any(hasattr(callback, hook) for hook in HOOKS):
            raise SettingError(
                f"callbacks: {callback!r} has no method such as on_epoch_end: derive it from "
                "scriven.keras.callbacks.Callback"
            )
