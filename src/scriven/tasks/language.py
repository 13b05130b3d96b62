"""Pre-training: predict the next token at every position (GPT-1 paper, section 3.1)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..data.batch import Batch, eval_streams, eval_windows
from ..data.shards import TokenFile
from .base import BaseTask


class Language(BaseTask):
    """Next-token prediction."""

    @classmethod
    def window_length(cls, context: int) -> int:
        """One more than the model reads: the last token is only a target."""
        return context + 1

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """(B, T + 1) windows -> tokens (B, T), and as targets the token after each."""
        tokens = windows[:, :-1]
        if self.first_tokens:  # as in `eval_batches`
            bos = tokens.new_tensor(self.first_tokens).expand(len(tokens), 1)
            tokens = torch.cat((bos, tokens[:, 1:]), 1)
        return Batch(tokens, windows[:, 1:])

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Windows without overlap; a few long rows for a recurrent model."""
        context, eos = self.sequence_length, self.special["eos"]
        # a recurrent model carries its state from window to window, so rows must be contiguous
        cut = eval_streams if self.backbone.is_recurrent else eval_windows
        for batch in cut(shard, context, eos, device):
            # an imported model may have seen no text that begins otherwise
            if self.first_tokens:
                batch.tokens[:, 0] = self.first_tokens[0]
            yield batch


Task = Language
