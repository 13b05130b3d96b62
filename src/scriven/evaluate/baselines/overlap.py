"""The TF-IDF cosine of two texts: how many words they share, weighted by rarity.

For similarity it is mapped to the scale of the scores by least squares; of several choices for a
context, the most similar one is taken.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..tfidf import TfIdf
from .base import Answer, Row, reservoir_sample

TASKS = ("similarity", "choice")

MAX_ROWS = 200_000
"""Training rows that are counted at most, drawn from all of them."""


@dataclass(frozen=True)
class Overlap:
    """Answers with a score, or with the index of a choice."""

    tfidf: TfIdf
    slope: float
    intercept: float
    note: str = "shared words by TF-IDF"

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        return [self._choice(row) if "choices" in row else self._score(row) for row in rows]

    def _score(self, row: Row) -> float:
        cosine = self.tfidf.cosine_similarity(row["first"], row["second"])
        return self.intercept + self.slope * cosine

    def _choice(self, row: Row) -> int:
        similar = [self.tfidf.cosine_similarity(row["context"], each) for each in row["choices"]]
        return max(range(len(similar)), key=similar.__getitem__)  # of equals the first


def fit(rows: Iterable[Row]) -> Overlap:
    """Counts document frequencies, and fits the line from cosines to scores.

    Raises:
        InputError: there are no rows.
    """
    sample = reservoir_sample(rows, MAX_ROWS)
    if "choices" in sample[0]:
        texts = (text for row in sample for text in (row["context"], *row["choices"]))
        return Overlap(TfIdf.fit(texts), 1.0, 0.0)
    tfidf = TfIdf.fit(text for row in sample for text in (row["first"], row["second"]))
    cosines = np.array([tfidf.cosine_similarity(row["first"], row["second"]) for row in sample])
    scores = np.array([float(row["score"]) for row in sample])
    # least squares in closed form; without variance the line is flat at the mean score
    centred = cosines - cosines.mean()
    variance = float(centred @ centred)
    slope = float(centred @ scores) / variance if variance > 1e-12 else 0.0
    return Overlap(tfidf, slope, float(scores.mean() - slope * cosines.mean()))
