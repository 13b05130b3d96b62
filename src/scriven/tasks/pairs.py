"""Training on source-target pairs: read a source, generate its target, as in translation.

Sutskever et al. 2014, section 2; Vaswani et al. 2017, section 3. A target ends with the
end-of-document token, which the model learns to generate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from ..data.batch import TOKENS_PER_BATCH, Batch, Ids, collate_pairs
from ..data.pairs import PairDataset
from ..data.shards import TokenFile
from .base import BaseTask


class Pairs(BaseTask):
    """Targets, each predicted from its source."""

    loss_unit = "target token"
    echo_prompt = False

    @property
    def max_new_tokens(self) -> int:
        """A target ends where the decoder's context does."""
        return self.backbone.config.context_length

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """All pairs of a shard, in order; of a truncated target the tokens that are left count."""
        pairs = PairDataset(shard, self.special["eos"])
        # as many rows as fit into the budget if every target fills the context
        at_once = max(1, TOKENS_PER_BATCH // self.backbone.config.context_length)
        for start in range(0, len(pairs), at_once):
            numbers = range(start, min(start + at_once, len(pairs)))
            yield self.batch(*pairs.read(numbers), device)

    def batch(self, sources: Sequence[Ids], targets: Sequence[Ids], device: torch.device) -> Batch:
        """(B, S) sources and (B, T) targets, padded; each loses its end beyond the context."""
        context, pad = self.backbone.config.context_length, self.special["pad"]
        sides = ([text[:context] for text in side] for side in (sources, targets))
        batch = collate_pairs(*sides, pad=pad, device=device)
        # counts the EOS that ends each source in the prepared text
        num_tokens = sum(map(len, [*sources, *targets])) + len(sources)
        return replace(batch, text_tokens=num_tokens)

    def truncate_prompt(self, prompt: list[int]) -> list[int]:
        """As much of a source as is read in training: its beginning."""
        return prompt[: self.backbone.config.context_length]

    def build_inputs(
        self, window: list[int], num_generated: int
    ) -> tuple[list[int] | None, list[int]]:
        """The prompt is the source, generated tokens are the target."""
        # the decoder starts from the padding token, as T5 and Marian do
        source_end = len(window) - num_generated
        return window[:source_end], [self.special["pad"], *window[source_end:]]


Task = Pairs
