"""Masked language modelling: predict masked tokens from both sides (BERT, section 3.1).

Devlin et al. 2018; as in RoBERTa (Liu et al. 2019, section 4) without next-sentence prediction, and
with other masks each time a text is read (dynamic masking). The loss is a pseudo-likelihood: each
token is predicted from tokens after it as well, so it is lower than, and not comparable with, the
loss of causal language models.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.batch import IGNORE_INDEX, Batch, token_blocks
from ..data.shards import TokenFile
from ..nn.block import init_weights, normal, ones, zeros
from ..nn.norm import LayerNorm
from .base import BaseTask, at_least_float32

MASK_PROBABILITY = 0.15  # fraction of the tokens to predict
REPLACED_BY_MASK, REPLACED_BY_RANDOM = 0.8, 0.1
"""Of these: replaced by the mask, by a random token; the others stay as they are."""
EVAL_PASSES = 7
"""Passes over each window in evaluation, with a seventh masked in each: about MASK_PROBABILITY."""


class Head(nn.Module):
    """BERT's masked language model head: a dense layer, GELU, a norm, and the output matrix, which
    is the embedding table unless it has a `decoder` of its own."""

    def __init__(self, d_model: int, vocab_size: int, eps: float, decoder: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = LayerNorm(d_model, eps)
        self.weight = nn.Parameter(torch.zeros(vocab_size, d_model)) if decoder else None
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(B, T, C) and (V, C) -> (B, T, V)"""
        x = self.norm(F.gelu(self.dense(hidden)))  # (B, T, C)
        return F.linear(x, embedding if self.weight is None else self.weight, self.bias)


class Masked(BaseTask):
    """Masked-token prediction."""

    EXTRA_TOKENS = ("mask",)
    loss_unit = "hidden token"
    is_generative = False
    is_masked_lm = True

    @property
    def mask(self) -> int:
        """The mask's id; it is the last token where the tokenizer's special ones are not given."""
        return self.special.get("mask", self.vocab_size - 1)

    @cached_property
    def plain(self) -> NDArray[np.int64]:
        """The ids of tokens that are text."""
        return np.setdiff1d(np.arange(self.vocab_size), [self.mask, *self.special.values()])

    def make_head(self) -> nn.Module | None:
        """BERT's; None where the backbone has one."""
        config: Any = self.backbone.config
        if self.backbone.has_head:
            return None
        return Head(
            config.d_model, config.vocab_size, config.norm_eps, decoder=not config.tie_embeddings
        )

    def init_weights(self) -> None:
        """Fresh weights."""
        backbone: Any = self.backbone
        backbone.init_weights()
        if self.head is None:
            return
        table = [("norm.weight", ones), ("dense.weight", normal(0.02)), ("", zeros)]
        init_weights(self.head, table)  # a decoder of zeros starts undecided

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V), in float32 or better."""
        if self.head is None:
            return super().logits(hidden)
        return at_least_float32(self.head(hidden, self.backbone.embed.token.weight))

    @classmethod
    def window_length(cls, context: int) -> int:
        """The context: nothing after it is a target."""
        return context

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """(B, T) windows, masked anew every time they are read."""
        rows = windows.cpu().numpy()
        pairs = [self._mask(row, first + index, seed) for index, row in enumerate(rows)]
        tokens, targets = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        return Batch(tokens.to(windows.device), targets.to(windows.device))

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Each window of the context EVAL_PASSES times; every token is masked in one of them."""
        num_windows = 0
        for rows in token_blocks(shard, self.backbone.config.context_length):  # (B, T)
            passes = np.stack(
                [eval_passes(num_windows + i, rows.shape[1]) for i in range(len(rows))]
            )
            num_windows += len(rows)
            # a window shorter than the passes has one position masked in each
            for number in range(min(EVAL_PASSES, rows.shape[1])):
                is_masked = passes == number  # (B, T)
                tokens = torch.from_numpy(np.where(is_masked, self.mask, rows))
                targets = torch.from_numpy(np.where(is_masked, rows, IGNORE_INDEX))
                yield Batch(tokens.to(device), targets.to(device))

    def _mask(
        self, row: NDArray[np.int64], sample: int, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(tokens, targets) of one row; the same for the same seed and sample."""
        # Philox is a function of its key: any row can be drawn without those before it
        generator = np.random.Generator(np.random.Philox(key=[seed % 2**64, sample]))
        places = choose_masked(len(row), generator)
        fate = generator.random(len(places))
        random_tokens = self.plain[generator.integers(len(self.plain), size=len(places))]
        # 80 % mask, 10 % random token, 10 % unchanged
        shown = np.where(fate < REPLACED_BY_MASK, self.mask, row[places])
        is_random = (fate >= REPLACED_BY_MASK) & (fate < REPLACED_BY_MASK + REPLACED_BY_RANDOM)
        shown = np.where(is_random, random_tokens, shown)
        tokens, targets = row.copy(), np.full_like(row, IGNORE_INDEX)
        tokens[places], targets[places] = shown, row[places]
        return tokens, targets


def choose_masked(length: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The positions to predict in a text of `length` tokens: MASK_PROBABILITY of them on average,
    and at least one, as a row without any would have no loss."""
    count = max(1, int(MASK_PROBABILITY * length + generator.random()))
    return np.sort(generator.permutation(length)[:count])


def eval_passes(window: int, length: int) -> NDArray[np.int64]:
    """In which evaluation pass each position of a window is masked: fixed, and the passes differ by
    at most one position."""
    generator = np.random.Generator(np.random.Philox(key=[EVAL_PASSES, window]))
    return generator.permutation(length) % EVAL_PASSES


Task = Masked
