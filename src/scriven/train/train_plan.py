"""A run, fully decided, and what it is decided from."""

from dataclasses import dataclass, field
from typing import Any

from ..settings import OptimSettings, Settings, TokenizerSettings
from .schedule import Budget


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
