"""The user's own parts of a run, from Python."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..evaluate.loss import Metric
from ..tasks.base import Criterion
from .optim import Custom


@dataclass(frozen=True)
class Own:
    """The user's own parts, from Python."""

    optimizer: Custom | None = None
    criterion: Criterion | None = None
    metrics: Mapping[str, Metric] | None = None
    weights: dict[str, torch.Tensor] | None = None
    """To start from, instead of fresh ones."""
    learned: dict[str, torch.Tensor] | None = None
    """Of another task's model, to start a fine-tuning from."""

    def names(self) -> list[str]:
        """Which parts are the user's own; a run begun with them goes on only with them."""
        parts = {"optimizer": self.optimizer, "loss": self.criterion}
        return [name for name, part in parts.items() if part is not None]
