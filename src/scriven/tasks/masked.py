"""Filling gaps: predict hidden tokens from those on both sides (Devlin et al. 2018, section 3.1).

As RoBERTa does it (Liu et al. 2019, section 4): nothing but this, and other gaps each time a text
is read. The loss is a pseudo-likelihood: each token is predicted by someone who sees what comes
after it, so it is lower than, and not comparable with, the loss of models that read left to right.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.batch import IGNORE_INDEX, Batch
from ..data.collate import token_blocks
from ..data.shards import TokenFile
from ..models.base import Architecture
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.norm import LayerNorm
from .base import BaseTask, Criterion

HIDDEN = 0.15
"""Share of the tokens to predict."""
MASKED, SWAPPED = 0.8, 0.1
"""Of these: shown as the mask, as any other token; the rest is shown as it is."""
ROUNDS = 7
"""Looks at each window when measuring, a seventh of it hidden in each: about the share HIDDEN."""


class Head(nn.Module):
    """What turns a hidden state into one that is compared with every token's vector (BERT's code).

    Args:
        decoder: whether it has vectors of its own to compare with, instead of the embedding's.
    """

    def __init__(self, d_model: int, vocab_size: int, eps: float, decoder: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = LayerNorm(d_model, eps)
        self.weight = nn.Parameter(torch.zeros(vocab_size, d_model)) if decoder else None
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(B, T, W) and (V, W) -> (B, T, V)"""
        x = self.norm(F.gelu(self.dense(hidden)))
        return F.linear(x, embedding if self.weight is None else self.weight, self.bias)


class Masked(BaseTask):
    """Masked-token prediction."""

    EXTRA_TOKENS = ("mask",)
    loss_unit = "hidden token"
    is_generative = False
    is_masked_lm = True

    def __init__(
        self,
        backbone: Architecture,
        criterion: Criterion | None = None,
        special: Mapping[str, int] | None = None,
        task_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, criterion, special, task_config)
        # a tokenizer's mask is its last token
        self.mask = self.special.get("mask", self.vocab_size - 1)
        self.plain = np.setdiff1d(np.arange(self.vocab_size), [self.mask, *self.special.values()])

    def make_head(self) -> nn.Module:
        """BERT's."""
        config: Any = self.backbone.config
        return Head(
            config.d_model, config.vocab_size, config.norm_eps, decoder=not config.tie_embeddings
        )

    def init_weights(self) -> None:
        """Fresh weights."""
        backbone: Any = self.backbone
        backbone.init_weights()
        table = [("norm.weight", ones), ("dense.weight", normal(0.02)), ("", zeros)]
        init_weights(self.head, table)  # a decoder of zeros starts undecided

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, V), in float32 or better."""
        scores: Tensor = self.head(hidden, self.backbone.embed.token.weight)
        return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores

    @property
    def window(self) -> int:
        """The context: nothing after it is a target."""
        return self.backbone.config.context_length

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """Each window with other gaps every time it is read."""
        rows = windows.cpu().numpy()
        pairs = [self._hide(row, first + number, seed) for number, row in enumerate(rows)]
        tokens, targets = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        return Batch(tokens.to(windows.device), targets.to(windows.device))

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Each window of the context ROUNDS times; every token is hidden in one of them."""
        seen = 0
        for rows in token_blocks(shard, self.backbone.config.context_length):
            turns = np.stack([turns_of(seen + row, rows.shape[1]) for row in range(len(rows))])
            seen += len(rows)
            for turn in range(min(ROUNDS, rows.shape[1])):
                hidden = turns == turn
                tokens = torch.from_numpy(np.where(hidden, self.mask, rows))
                targets = torch.from_numpy(np.where(hidden, rows, IGNORE_INDEX))
                yield Batch(tokens.to(device), targets.to(device))

    def _hide(
        self, row: NDArray[np.int64], sample: int, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(tokens, targets) of one row; the same for the same seed and sample."""
        generator = np.random.Generator(np.random.Philox(key=[seed % 2**64, sample]))
        hidden = choose_masked(len(row), generator)
        fate = generator.random(len(hidden))
        swaps = self.plain[generator.integers(len(self.plain), size=len(hidden))]
        shown = np.where(fate < MASKED, self.mask, row[hidden])
        shown = np.where((fate >= MASKED) & (fate < MASKED + SWAPPED), swaps, shown)
        tokens, targets = row.copy(), np.full_like(row, IGNORE_INDEX)
        tokens[hidden], targets[hidden] = shown, row[hidden]
        return tokens, targets


def choose_masked(length: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The places to predict in a text of `length` tokens: HIDDEN of them on average, at least one,
    as a row without any would teach nothing and has no mean."""
    count = max(1, int(HIDDEN * length + generator.random()))
    return np.sort(generator.permutation(length)[:count])


def turns_of(window: int, length: int) -> NDArray[np.int64]:
    """In which round each place of a window is hidden: fixed, and the rounds differ by at most one
    place."""
    generator = np.random.Generator(np.random.Philox(key=[ROUNDS, window]))
    return generator.permutation(length) % ROUNDS


Task = Masked
