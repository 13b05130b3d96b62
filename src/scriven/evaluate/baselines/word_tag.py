"""The most frequent tag of each word in the training part, whatever stands around it.

A word that training did not have gets the most frequent tag of the words that it had once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ...errors import InputError
from .base import NO_ROWS, Answer, FittedBaseline, Row

TASKS = ("tag",)


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Counts the tags of each word; of equally frequent ones, the one seen first.

    Raises:
        InputError: there are no rows.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            counts[word][tag] += 1
    if not counts:
        raise InputError(NO_ROWS)
    best = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    once = Counter(best[word] for word, tags in counts.items() if tags.total() == 1)
    every = sum(counts.values(), Counter[str]())
    unknown = (once or every).most_common(1)[0][0]

    def answers(rows: Sequence[Row]) -> list[Answer]:
        """The tags of each row."""
        return [tuple(best.get(word, unknown) for word in row["tokens"]) for row in rows]

    return FittedBaseline(f"{len(best):,} words, others {unknown}", answers)
