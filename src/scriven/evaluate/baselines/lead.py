"""Lead-n: the first n words of the source as its summary, n chosen on the training part.

News says first what matters most, so this is a strong baseline for summaries and headlines.
"""

from collections.abc import Iterable

import numpy as np

from ..bootstrap import Floats
from ..metrics.rouge_l import f1, lcs_lengths, rouge_words
from .base import FittedBaseline, Row, reservoir_sample

TASKS = ("summarize",)

MAX_WORDS = 128  # longest lead that is tried
MAX_ROWS = 20_000  # training rows that are tried at most, drawn from all of them


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Finds the length of the highest mean ROUGE-L; of equal ones the shortest. Words are what
    stands between spaces.

    Raises:
        InputError: there are no rows.
    """
    total = np.zeros(MAX_WORDS)
    for row in reservoir_sample(rows, MAX_ROWS):
        total += _rouge_by_length(row["source"], row["target"])
    length = int(total.argmax()) + 1
    return FittedBaseline(
        f"the first {length} words" if length > 1 else "the first word",
        lambda rows: [" ".join(row["source"].split()[:length]) for row in rows],
    )


def _rouge_by_length(source: str, target: str) -> Floats:
    """(MAX_WORDS,) ROUGE-L of the lead of each length, from 1."""
    parts = [rouge_words(part) for part in source.split(maxsplit=MAX_WORDS)[:MAX_WORDS]]
    reference = rouge_words(target)
    # ROUGE-L of every lead at once: the LCS of each prefix of the source with the target
    lengths = [0, *lcs_lengths([word for part in parts for word in part], reference)]
    scores = np.zeros(MAX_WORDS)
    read, score = 0, 0.0
    for place in range(MAX_WORDS):
        if place < len(parts):  # a word between spaces may hold several of ROUGE's words
            read += len(parts[place])
            score = f1(lengths[read], read, len(reference))
        scores[place] = score  # past the end of the source the lead stays the same
    return scores
