"""Pre-training: predict the next token at every position (GPT-1 paper, section 3.1)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.collate import eval_streams, eval_windows
from ..data.shards import TokenFile
from .base import BaseTask


class Language(BaseTask):
    """Next-token prediction."""

    @property
    def window(self) -> int:
        """One more than the context: the last token is only a target."""
        return self.backbone.config.context_length + 1

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """Each token, and the one after it."""
        return Batch(windows[:, :-1], windows[:, 1:])

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Windows of the context without overlap; in a few long rows for a model that remembers."""
        if self.backbone.is_recurrent:
            return eval_streams(
                shard, self.backbone.config.context_length, self.special["eos"], device
            )
        return eval_windows(shard, self.backbone.config.context_length, self.special["eos"], device)


Task = Language
