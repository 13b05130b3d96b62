"""The words that two texts share, weighted by how rare they are: the cosine of TF-IDF.

As a similarity it is put on the scale of the scores by least squares; of several answers to a
context the one that shares most with it is taken.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .base import Answer, Row, no_rows
from .shared.rarity import Rarity
from .shared.sampled import sampled

TASKS = ("similarity", "choice")

ROWS = 200_000
"""Training rows that are counted at most, drawn from all of them."""


@dataclass(frozen=True)
class Overlap:
    """Answers with a score, or with the place of an answer."""

    rarity: Rarity
    slope: float
    start: float
    note: str = "shared words by TF-IDF"

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        return [self._chosen(row) if "choices" in row else self._scored(row) for row in rows]

    def _scored(self, row: Row) -> float:
        return self.start + self.slope * self.rarity.cosine(row["first"], row["second"])

    def _chosen(self, row: Row) -> int:
        shared = [self.rarity.cosine(row["context"], choice) for choice in row["choices"]]
        return max(range(len(shared)), key=shared.__getitem__)  # of equals the first


def fit(rows: Iterable[Row]) -> Overlap:
    """Counts in how many texts each word occurs, and fits the line from cosines to scores.

    Raises:
        InputError: there are no rows.
    """
    kept = sampled(rows, ROWS)
    if not kept:
        raise no_rows()
    if "choices" in kept[0]:
        texts = (text for row in kept for text in (row["context"], *row["choices"]))
        return Overlap(Rarity.of(texts), 1.0, 0.0)
    rarity = Rarity.of(text for row in kept for text in (row["first"], row["second"]))
    cosines = np.array([rarity.cosine(row["first"], row["second"]) for row in kept])
    scores = np.array([float(row["score"]) for row in kept])
    centred = cosines - cosines.mean()
    spread = float(centred @ centred)
    slope = float(centred @ scores) / spread if spread > 1e-12 else 0.0
    return Overlap(rarity, slope, float(scores.mean() - slope * cosines.mean()))
