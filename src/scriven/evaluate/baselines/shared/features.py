"""What a bag of words sees of a row: words and pairs of neighbours, each once.

Of two texts it sees the words of either, those of both, those of one alone, and how many they
share. A feature counts the more the rarer it is (as in `rarity`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from ..base import Row
from .rarity import weight
from .sparse import Sparse
from .words import words

MOST = 300_000
"""Features that are kept: those found in most rows."""

SHARES = 10
"""Steps in which the share of common words is seen."""


@dataclass(frozen=True)
class Features:
    """The features of the training rows."""

    places: dict[str, int]
    """Feature -> column."""
    weights: Tensor
    """(f,) float32, how much each counts."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """Counts the features once per row."""
        found = Counter[str]()
        for row in rows:
            found.update(seen(row))
        kept = found.most_common(MOST)
        places = {feature: at for at, (feature, _) in enumerate(kept)}
        return cls(places, torch.tensor([weight(len(rows), count) for _, count in kept]))

    def __len__(self) -> int:
        """f."""
        return len(self.places)

    def matrix(self, rows: Sequence[Row]) -> Sparse:
        """(n, f); features that training did not have are left out."""
        found = [[self.places[each] for each in seen(row) if each in self.places] for row in rows]
        return Sparse.of(found, self.weights)


def seen(row: Row) -> list[str]:
    """The features of a row, each once, in the order in which they were met."""
    if "text" in row:
        return list(dict.fromkeys(_grams(words(row["text"]))))
    names = ("premise", "hypothesis") if "premise" in row else ("first", "second")
    first, second = (words(row[name]) for name in names)
    return list(dict.fromkeys(_of_two(first, second)))


def _grams(found: list[str]) -> Iterator[str]:
    """Words, and neighbours joined by a space, which no word holds."""
    yield from found
    for one, other in pairwise(found):
        yield f"{one} {other}"


def _of_two(first: list[str], second: list[str]) -> Iterator[str]:
    """What either text has, and what becomes of it in the other."""
    for side, text in (("1", first), ("2", second)):
        yield from (f"{side}\t{gram}" for gram in _grams(text))
    one, other = dict.fromkeys(first), dict.fromkeys(second)
    yield from (f"{'=' if word in other else '-'}\t{word}" for word in one)
    yield from (f"+\t{word}" for word in other if word not in one)
    common = sum(word in other for word in one)
    for side, size in (("1", len(one)), ("2", len(other))):
        yield f"share {side}\t{SHARES * common // max(1, size)}"
        yield f"alone {side}\t{min(SHARES, size - common)}"
