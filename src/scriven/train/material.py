"""What a run is trained on, as the trainer sees it: a text, or the rows of a table."""

from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..distributed import BatchShard
from ..evaluate.loss import Score
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer
from .feed import Feed

if TYPE_CHECKING:
    from .trainer import Trainer


class Material(Protocol):
    """A training part and a validation part, and what is known of them."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def opening(self) -> int:
        """The token that an empty prompt stands for."""
        ...

    @property
    def size(self) -> str:
        """How much there is, in a person's words."""
        ...

    def feed(self, task: BaseTask, seed: int, share: BatchShard, device: torch.device) -> Feed:
        """Where batches come from."""
        ...

    def measured(self, task: BaseTask) -> int:
        """UTF-8 bytes of what is measured, for bits per byte; 0 where that means nothing."""
        ...

    def warnings(self, task: BaseTask) -> list[str]:
        """Sentences for the person before the first step."""
        ...

    def baseline(self) -> tuple[dict[str, Any], str]:
        """What something trivial reaches on the same split, for the record; and a sentence."""
        ...

    def sample(self, run: "Trainer") -> str:
        """A little of what the model makes of the validation part."""
        ...

    def results(self, run: "Trainer", score: Score) -> dict[str, Any]:
        """What the finished model reached beyond its loss."""
        ...
