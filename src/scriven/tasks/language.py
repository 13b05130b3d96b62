"""Pre-training: predict the next token at every position (GPT-1 paper, section 3.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import IGNORED, Batch
from ..models.shared.backbone import Backbone
from ..nn.init import zeros

Criterion = Callable[[Tensor, Tensor], Tensor]
"""The user's own loss: logits (N, V) and targets (N,) -> mean over the targets."""


@dataclass
class Output:
    """Sums over a batch, so that batches of any size add up to the same mean."""

    loss: Tensor
    """Nats, summed over the counted targets."""
    tokens: Tensor
    """Counted targets."""
    correct: Tensor
    """Targets that were the likeliest token."""


class Language(nn.Module):
    """A backbone with a head that scores every token of the vocabulary."""

    def __init__(self, backbone: Backbone, criterion: Criterion | None = None) -> None:
        super().__init__()
        self.backbone, self.criterion = backbone, criterion
        self.vocabulary = backbone.config.vocabulary
        self.head = None
        if not backbone.config.tied:
            self.head = nn.Linear(backbone.config.width, self.vocabulary, bias=False)

    def initialise(self) -> None:
        """Fresh weights."""
        backbone: Any = self.backbone
        backbone.initialise()
        if self.head is not None:
            zeros(self.head.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, V), in float32 or better."""
        weight = self.backbone.embed.token.weight if self.head is None else self.head.weight
        scores = F.linear(hidden, weight)
        return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores

    def forward(self, batch: Batch) -> Output:
        """Loss of a batch: the user's own while training, cross entropy when measured."""
        logits = self.logits(self.backbone(batch.tokens)).flatten(0, 1)
        targets = batch.targets.flatten()
        tokens = (targets != IGNORED).sum()
        if self.criterion is None or not self.training:
            loss = F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
        else:
            loss = self.criterion(logits, targets) * tokens
        correct = (logits.detach().argmax(-1) == targets).sum()
        return Output(loss, tokens, correct)
