"""Metrics of sets of labels: micro and macro F1, and the fraction of sets that are right."""

from collections.abc import Sequence

import numpy as np

from ..bootstrap import Floats, Statistic, proportion
from .base import Metric, row_statistic

Sets = Sequence[Sequence[str]]


def _members(truth: Sets, predicted: Sets) -> tuple[Floats, Floats]:
    """(n, L) whether each row truly and predictedly has each of the L labels that occur."""
    names = sorted({name for each in (*truth, *predicted) for name in each})
    place = {name: number for number, name in enumerate(names)}
    sides = np.zeros((2, len(truth), max(1, len(names))))
    for side, rows in zip(sides, (truth, predicted), strict=True):
        for row, each in zip(side, rows, strict=True):
            row[[place[name] for name in each]] = 1.0
    return sides[0], sides[1]


def _f1(correct: Floats, either: Floats) -> Floats:
    """2 · correct / (true + predicted); 0 where there is neither."""
    return np.divide(2 * correct, either, out=np.zeros_like(correct), where=either > 0)


def micro_f1(truth: Sets, predicted: Sets) -> Statistic:
    """F1 of all labels of all rows together."""
    true, answered = _members(truth, predicted)
    counts = np.stack([(true * answered).sum(1), (true + answered).sum(1)], axis=1)  # (n, 2)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        correct, either = (drawn @ counts).T
        return _f1(correct, either)

    return row_statistic(len(counts), score)


def macro_f1(truth: Sets, predicted: Sets) -> Statistic:
    """The plain mean of the labels' F1, of labels that occur on either side."""
    true, answered = _members(truth, predicted)
    correct, either = true * answered, true + answered  # (n, L)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        sums = drawn @ either  # (r, L)
        occurs = np.maximum((sums > 0).sum(1), 1)
        return np.asarray(_f1(drawn @ correct, sums).sum(1) / occurs)

    return row_statistic(len(true), score)


def exact_match(truth: Sets, predicted: Sets) -> Statistic:
    """The fraction of rows with exactly the right labels."""
    same = [set(a) == set(b) for a, b in zip(truth, predicted, strict=True)]
    return proportion(np.array(same))


METRICS = {
    "micro_f1": Metric(("labelsets",), 1, micro_f1),
    "macro_f1": Metric(("labelsets",), 2, macro_f1),
    "exact_match": Metric(("labelsets",), 3, exact_match),
}
