"""The first words of the source as its summary, as many as do best on the training part.

News says first what matters most, so this is a strong baseline for summaries and headlines.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..metrics.rouge import balance, common, words
from .base import Answer, Row, no_rows
from .shared.sampled import sampled

TASKS = ("summarize",)

LONGEST = 128
"""Words of the longest lead that is tried."""
ROWS = 20_000
"""Training rows that are tried at most, drawn from all of them."""


@dataclass(frozen=True)
class Lead:
    """Answers with the first `length` words between spaces."""

    length: int

    @property
    def note(self) -> str:
        return f"the first {self.length} words" if self.length > 1 else "the first word"

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        return [" ".join(row["source"].split()[: self.length]) for row in rows]


def fit(rows: Iterable[Row]) -> Lead:
    """Finds the length of the highest mean ROUGE-L; of equal ones the shortest.

    Raises:
        InputError: there are no rows.
    """
    total = np.zeros(LONGEST)
    kept = sampled(rows, ROWS)
    if not kept:
        raise no_rows()
    for row in kept:
        total += _by_length(row["source"], row["target"])
    return Lead(int(total.argmax()) + 1)


def _by_length(source: str, target: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(LONGEST,) ROUGE-L of the lead of each length, from 1."""
    parts = [words(part) for part in source.split(maxsplit=LONGEST)[:LONGEST]]
    wanted = words(target)
    lengths = [0, *common([word for part in parts for word in part], wanted)]
    scores = np.zeros(LONGEST)
    read, score = 0, 0.0
    for place in range(LONGEST):
        if place < len(parts):
            read += len(parts[place])
            score = balance(lengths[read], read, len(wanted))
        scores[place] = score  # a source that has ended stays what it was
    return scores
