"""The TF-IDF cosine of two texts: how many words they share, weighted by rarity.

For similarity it is mapped to the scale of the scores by least squares; of several choices for a
context, the most similar one is taken; documents are ranked by it.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ..bootstrap import Floats
from ..tfidf import TfIdf
from .base import FittedBaseline, Row, reservoir_sample

TASKS = ("similarity", "choice", "rank")

MAX_ROWS = 200_000  # training rows that are counted at most, drawn from all of them


NOTE = "shared words by TF-IDF"


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Counts document frequencies, and fits the line from cosines to scores.

    Raises:
        InputError: there are no rows.
    """
    sample = reservoir_sample(rows, MAX_ROWS)
    if "choices" in sample[0]:
        texts = (text for row in sample for text in (row["context"], *row["choices"]))
        tfidf = TfIdf.fit(texts)
        return FittedBaseline(NOTE, lambda rows: [_most_similar(tfidf, row) for row in rows])
    if "query" in sample[0]:
        tfidf = TfIdf.fit(text for row in sample for text in (row["query"], *_documents(row)))
        return FittedBaseline(NOTE, lambda rows: [_ranking(tfidf, row) for row in rows])
    tfidf = TfIdf.fit(text for row in sample for text in (row["first"], row["second"]))

    def cosines(rows: Sequence[Row]) -> Floats:  # (n,)
        return np.array([tfidf.cosine_similarity(row["first"], row["second"]) for row in rows])

    found, scores = cosines(sample), np.array([float(row["score"]) for row in sample])
    # least squares in closed form; without variance the line is flat at the mean score
    centred = found - found.mean()
    variance = float(centred @ centred)
    slope = float(centred @ scores) / variance if variance > 1e-12 else 0.0
    intercept = float(scores.mean() - slope * found.mean())
    return FittedBaseline(NOTE, lambda rows: (intercept + slope * cosines(rows)).tolist())


def _documents(row: Row) -> list[str]:
    return row.get("documents") or [*row.get("positive", ()), *row.get("negative", ())]


def _ranking(tfidf: TfIdf, row: Row) -> tuple[float, ...]:
    return tuple(tfidf.cosine_similarity(row["query"], each) for each in _documents(row))


def _most_similar(tfidf: TfIdf, row: Row) -> int:
    similar = [tfidf.cosine_similarity(row["context"], each) for each in row["choices"]]
    return max(range(len(similar)), key=similar.__getitem__)  # of equals the first
