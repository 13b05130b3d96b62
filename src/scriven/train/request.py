"""What a caller asks of a training: the arguments of the command line, with a preset beneath them,
and what only Python can hand over.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import config
from ..config import MAX_SEED, check_int
from ..errors import SettingError
from ..evaluate.loss import Metric
from ..settings import Settings
from ..tasks.base import BaseTask, Criterion
from ..tokenizers import Tokenizer
from .optim.base import OptimizerModule, UserOptimizer
from .schedule import schedule_of


@dataclass(frozen=True)
class TrainRequest:
    """A training as it was asked for; whatever is None or missing is chosen."""

    sources: Sequence[str] = ()
    """Texts for pre-training, tables for fine-tuning."""
    budget: str | None = None
    size: str | None = None
    out: str | None = None
    seed: int | None = None
    arch: str | None = None
    preset: str | None = None
    resume: str | None = None
    explain: bool = False
    quiet: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    began: float | None = None
    """time.monotonic() when the command started: wall-clock budgets count from there."""
    start: str | None = None
    """Texts: the model to go on from, instead of random weights (`--from`)."""
    replay: str | None = None
    """With `start`: SOURCE:FRACTION, the older text that is mixed in and its share; 0 for none."""
    merge: bool = False
    """With `start` and LoRA: save whole weights, and not the adapter alone."""
    base: str | None = None
    """The run to fine-tune: a path, a name under runs/, or latest. None: pre-training."""
    task: str | None = None
    """Fine-tuning: a file of tasks/; chosen by the columns of the table if None."""
    columns: str = ""
    """Fine-tuning: which column is which, as in text=review,label=stars."""
    validation: str | None = None
    """Fine-tuning: a table to evaluate on, instead of rows held out."""
    group: str | None = None
    """Fine-tuning: a column whose equal values stay in one part of the split."""
    fresh: bool = False
    """Fine-tuning: start from random weights, as the control without pre-training does."""
    control: bool = False
    """Train that control afterwards; only for the command that resumes."""
    resume_command: str | None = None
    """The command that resumes this run, if it is part of another command."""

    @property
    def command(self) -> str:
        """The command line that asks for the same again."""
        if self.resume_command is not None:
            return self.resume_command
        # only what was given: the rest is chosen again, in the same way
        if self.base is None:
            parts = ["scriven", "train", *self.sources]
            names: tuple[str, ...] = ("budget", "size", "out", "seed", "arch", "preset", "replay")
            parts += [] if self.start is None else ["--from", self.start]
        else:
            parts = ["scriven", "finetune", self.base, *self.sources]
            names = ("task", "columns", "validation", "group", "budget", "out", "seed", "arch")
        for name in names:
            value = getattr(self, name)
            if value not in (None, ""):
                parts += [f"--{name}", str(value)]
        parts += [f"--{name}" for name in ("control", "merge") if getattr(self, name)]
        parts += [f"--{name}={value}" for name, value in self.settings.items()]
        return shlex.join(parts)


@dataclass(frozen=True)
class UserComponents:
    """The user's own parts of a training, handed over from Python."""

    optimizer: UserOptimizer | None = None
    criterion: Criterion | None = None
    metrics: Mapping[str, Metric] | None = None
    weights: dict[str, torch.Tensor] | None = None
    """Initial weights of the same model."""
    base_weights: dict[str, torch.Tensor] | None = None
    """Weights of another task's model, to start a fine-tuning from."""
    tokenizer: Tokenizer | None = None
    """That of the model whose weights these are; by default one is made for the text."""
    base_task: BaseTask | None = None
    """A model that is trained: its modules themselves, so that there is one copy."""


@dataclass(frozen=True)
class Overrides:
    """Preset and command line together; None and missing fields were not given."""

    sections: dict[str, dict[str, object]]
    arch: str | None = None
    budget: str | None = None
    size: str | None = None
    seed: int | None = None

    def apply(self, settings: Settings) -> Settings:
        """Settings with the overrides; the section `model` belongs to the architecture.

        Raises:
            SettingError: names the setting and what it can be. InputError: no such optimizer.
        """
        # frozen sections, replaced as a whole; text of the command line becomes numbers here
        changed = {
            name: config.replace(getattr(settings, name), changes, name)
            for name, changes in self.sections.items()
            if name != "model"
        }
        settings = Settings(**{**vars(settings), **changed})
        # both raise for an unknown name, and load a user's file, which may be broken
        OptimizerModule(settings.optim.optimizer)
        schedule_of(settings.optim.lr_schedule)
        return settings


def read_overrides(request: TrainRequest) -> Overrides:
    """The overrides of a request; the command line goes before its preset.

    Raises:
        SettingError: an unknown section or top-level name, or an impossible seed.
    """
    # 1. the preset: arch, budget, size and seed at the top, then sections of settings
    preset = read_named_preset(request.preset) if request.preset else {}
    top = {name: preset.pop(name) for name in list(preset) if "." not in name}
    if "model.vocab_size" in request.settings:
        raise SettingError("--model.vocab_size is the tokenizer's: use --tokenizer.vocab_size")
    preset.pop("model.vocab_size", None)  # for `scriven inspect`; a text has its own vocabulary
    # 2. the command line goes before the preset
    sections = config.sections({**preset, **request.settings})
    known = ["model", *vars(Settings())]
    for name, changes in sections.items():
        if name not in known:
            raise config.unknown(
                f"--{name}.{next(iter(changes))}", [f"--{each}." for each in known]
            )
    # 3. values are checked by the dataclass of each section (`Overrides.apply`)
    for name in top:
        if name not in ("arch", "budget", "size", "seed"):
            raise config.unknown(name, ["arch", "budget", "size", "seed"])
    arch, budget, size = (
        getattr(request, name) or (str(top[name]) if name in top else None)
        for name in ("arch", "budget", "size")
    )
    seed: Any = request.seed if request.seed is not None else top.get("seed")
    if seed is not None:
        check_int("seed", seed, MAX_SEED)
    return Overrides(sections, arch, budget, size, seed)


def read_named_preset(name: str) -> dict[str, object]:
    """A TOML file, or a built-in preset by name.

    Raises:
        SettingError: neither exists; lists the built-in ones.
    """
    # a built-in preset is found by its name, so that `--preset ../x` reads no other file
    shipped = {
        file.stem: file for file in (Path(__file__).parent.parent / "presets").glob("*.toml")
    }
    path = Path(name) if name.endswith(".toml") else shipped.get(name)
    if path is None or not os.path.isfile(path):  # False for an impossible name
        names = ", ".join(sorted(shipped))
        raise SettingError(f"preset {name!r} does not exist: use a .toml file or one of {names}")
    return config.read_preset(path)
