"""The most frequent label of the training part, whatever the text."""

from collections import Counter
from collections.abc import Iterable

from ...errors import InputError
from .base import NO_ROWS, FittedBaseline, Row

TASKS = ("classify", "entail")


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Counts the labels; of equally frequent ones, the one seen first.

    Raises:
        InputError: there are no rows.
    """
    counts = Counter(row["label"] for row in rows)
    if not counts:
        raise InputError(NO_ROWS)
    label = counts.most_common(1)[0][0]
    return FittedBaseline(f"always {label}", lambda rows: [label] * len(rows))
