"""A run, fully decided, and how open settings are filled in, each with its reason."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..runtime import Runtime
from ..settings import OptimSettings, Settings, TokenizerSettings, check_ranges
from .budget import Budget
from .lr_schedule import schedule_of
from .optim.base import OptimizerModule


@dataclass(frozen=True)
class DatasetStats:
    """What a plan needs to know of the data."""

    vocab_size: int
    tokenizer: TokenizerSettings
    """As resolved when the data was prepared."""
    train_tokens: int
    validation_tokens: int
    longest: int | None = None
    """Tokens of the longest row, or side of a pair, where the data is rows."""
    rows: int | None = None
    """Training rows, where it is."""


@dataclass
class TrainPlan:
    """A run, fully decided."""

    architecture: str
    model: Any
    """The architecture's Config."""
    settings: Settings
    budget: Budget
    seed: int
    steps: int | None
    """Total optimizer steps; None for a wall-clock budget."""
    task: str
    """What it is trained for: a file of tasks/."""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageDefaults:
    """What a stage of training starts from, before anything was asked for."""

    settings: Settings
    patience: int
    """Evaluations without improvement before early stopping."""
    patience_reason: str


PRETRAINING = StageDefaults(Settings(), 8, "the validation loss is noisy, but not that noisy")

# A head for labels learns in a few careful epochs, as LoRA adapters do.
LABEL_FINETUNING = StageDefaults(
    Settings(
        optim=OptimSettings(
            optimizer="adamw", lr_schedule="linear", warmup_fraction=0.1, weight_decay=0.01
        )
    ),
    4,
    "few rows soon overfit",
)

# Written answers are learned as in pre-training, at half the learning rate.
TEXT_FINETUNING = StageDefaults(
    Settings(optim=OptimSettings(muon_lr=0.01)), 4, "few rows soon overfit"
)


class Choices:
    """Values of settings, those asked for and those filled in, each of these with its reason."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self.settings, self.reasons = settings, dict(runtime.reasons)
        self.changes: dict[str, dict[str, Any]] = {}
        # what the runtime has resolved already
        self.set("runtime.device", str(runtime.device))
        self.set("runtime.dtype", str(runtime.dtype).removeprefix("torch."))
        self.set("runtime.threads", runtime.threads)

    def fill(self, name: str, value: Any, reason: str) -> Any:
        """A setting `section.key` as asked for, or else this value, for this reason."""
        section, _, key = name.partition(".")
        asked = getattr(getattr(self.settings, section), key)
        return self.set(name, value, reason) if asked is None else asked

    def set(self, name: str, value: Any, reason: str | None = None) -> Any:
        """Replaces a setting, whatever was asked for."""
        section, _, key = name.partition(".")
        self.changes.setdefault(section, {})[key] = value
        if reason is not None:
            self.reasons[name] = reason
        return value

    def resolved(self, tokenizer: TokenizerSettings) -> Settings:
        """The settings with every choice made."""
        # sections are frozen: each is replaced once, with all its changes
        sections = {
            name: dataclasses.replace(getattr(self.settings, name), **values)
            for name, values in self.changes.items()
        }
        return dataclasses.replace(self.settings, tokenizer=tokenizer, **sections)


def check_settings(settings: Settings) -> None:
    """Refuses impossible numbers and unknown names before any work is done.

    Raises:
        SettingError: names the setting and what it can be. InputError: no such optimizer.
    """
    check_ranges(settings)
    # both raise for names nobody knows
    OptimizerModule(settings.optim.optimizer)
    schedule_of(settings.optim.lr_schedule)
