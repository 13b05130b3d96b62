"""The n-gram baseline: the loss of an n-gram language model on the same split.

Interpolated Witten-Bell smoothing (Bell, Cleary & Witten 1990; method C of Witten & Bell 1991):

    p(w | h) = (count(h w) + kinds(h) · p(w | h')) / (count(h) + kinds(h))

where h' is h without its oldest token, kinds(h) is the number of different tokens seen after h,
and the lowest level is uniform over the vocabulary. A history never seen leaves p(w | h') as it is.

Knows token ids only: no text, no torch, no model.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_TOKENS = 20_000_000  # only the last tokens are counted, those nearest to the validation part

CHUNK = 1 << 20
"""Tokens that are scored at once, so that memory does not grow with the validation part."""


def default_order(kind: str) -> int:
    """The order for a kind of tokenizer, fixed in advance and never tuned on validation text."""
    return 5 if kind in ("char", "byte") else 3


@dataclass(frozen=True)
class GramLevel:
    """All grams of one length, as one level of a tree in sorted arrays.

    A gram is named by its row in `grams`; its entry there is `parent · vocab_size + last token`,
    the parent being the row of the same gram without its last token, one level down.
    So names are exact (no hashing) and small, whatever the order.
    """

    grams: Ids
    counts: Ids
    totals: Ids  # how often each gram one level down was continued
    kinds: Ids  # by how many different tokens each gram one level down was continued

    def find(self, keys: Ids, known: npt.NDArray[np.bool_]) -> Ids:
        """The row of each key, -1 for those that do not occur or are not `known`."""
        rows = np.searchsorted(self.grams, keys)
        rows[rows == len(self.grams)] = 0
        return np.where(known & (self.grams[rows] == keys), rows, -1)


@dataclass(frozen=True)
class NGram:
    """Counts of a training text."""

    order: int
    vocab_size: int
    tokens: int  # how many tokens were counted
    levels: tuple[GramLevel, ...]

    @classmethod
    def fit(cls, tokens: npt.NDArray[np.integer], *, vocab_size: int, order: int = 5) -> Self:
        """Counts the grams of 1 to `order` tokens in the last `MAX_TOKENS` tokens.

        tokens: (n,) ids, each below `vocab_size`.
        """
        assert order >= 1 and vocab_size >= 1, (order, vocab_size)
        ids = _checked(tokens[-MAX_TOKENS:], vocab_size)
        names = np.zeros(len(ids) + 1, dtype=np.int64)  # the empty gram, before each token
        levels: list[GramLevel] = []
        below = 1  # grams one level down
        for length in range(1, order + 1):
            # Gram i of this length is the shorter gram that ends before token i, plus token i.
            keys = names[:-1] * vocab_size + ids[length - 1 :]
            if not len(keys):  # the text is shorter than this
                break
            if length < order:
                grams, names, counts = np.unique(keys, return_inverse=True, return_counts=True)
            else:
                grams, counts = np.unique(keys, return_counts=True)
            # the node of the tree that each gram hangs under, and what that node was continued by
            parents = grams // vocab_size
            totals = np.bincount(parents, weights=counts, minlength=below).astype(np.int64)
            kinds = np.bincount(parents, minlength=below)
            levels.append(GramLevel(grams, counts, totals, kinds))
            below = len(grams)
        return cls(order, vocab_size, len(ids), tuple(levels))

    def probabilities(
        self,
        tokens: npt.NDArray[np.integer],
        first_context: npt.NDArray[np.integer] | None = None,
    ) -> Floats:
        """The probability of every token after those before it.

        Args:
            tokens: (n,) token ids.
            first_context: the tokens before the first one; without it the first tokens have
                shorter histories.

        Returns:
            (n,) float64, each above 0.
        """
        before = np.empty(0, np.int64) if first_context is None else first_context
        before = before[max(0, len(before) - self.order + 1) :]
        ids = _checked(np.concatenate([before, tokens]), self.vocab_size)
        result = np.full(len(ids), 1.0 / self.vocab_size)  # the lowest level is uniform
        names = np.zeros(len(ids), dtype=np.int64)  # the history right before each token
        for level in self.levels:
            known = names >= 0  # (n,) histories that training has seen
            rows = level.find(names * self.vocab_size + ids, known)
            parents = np.where(known, names, 0)  # any valid row, masked by `kinds` below
            kinds = np.where(known, level.kinds[parents], 0)
            seen = np.where(rows >= 0, level.counts[rows], 0)
            total = level.totals[parents] + kinds
            # kinds is 0 where the history is unknown or was never continued.
            mixed = (seen + kinds * result) / np.maximum(total, 1)
            result = np.where(kinds > 0, mixed, result)
            # the history of the next token is the gram that ends here
            names = np.concatenate([[-1], rows[:-1]])
        return result[len(before) :]

    def loss(
        self,
        tokens: npt.NDArray[np.integer],
        first_context: npt.NDArray[np.integer] | None = None,
    ) -> float:
        """Mean negative log-likelihood in nats over every token; arguments as `probabilities`.

        Raises:
            InputError: there are no tokens to score.
        """
        if not len(tokens):
            raise InputError("no validation tokens to score: give a longer text")
        total = 0.0
        context = first_context
        for start in range(0, len(tokens), CHUNK):
            chunk = tokens[start : start + CHUNK]
            total -= float(np.log(self.probabilities(chunk, context)).sum())
            context = chunk
        return total / len(tokens)


def _checked(tokens: npt.NDArray[np.integer], vocab_size: int) -> Ids:
    """tokens as int64, asserted to lie in the vocabulary."""
    ids = tokens.astype(np.int64, copy=False)
    assert ids.ndim == 1, ids.shape
    assert not len(ids) or (ids.min() >= 0 and ids.max() < vocab_size), vocab_size
    return ids
