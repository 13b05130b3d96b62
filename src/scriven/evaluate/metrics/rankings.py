"""Metrics of rankings: NDCG, mean reciprocal rank, and how often the best document is first.

A document with grade 0 is not relevant. Of documents with equal scores none is lucky: NDCG is the
mean over their orders (McSherry & Najork 2008), the other two take the worst of them.
"""

from collections.abc import Sequence

import numpy as np

from ..bootstrap import Floats, Statistic, mean, proportion
from .base import Metric

Grades = Sequence[float]


def _pairs(truth: Sequence[Grades], predicted: Sequence[Grades]) -> list[tuple[Floats, Floats]]:
    return [
        (np.asarray(grades, np.float64), np.asarray(scores, np.float64))
        for grades, scores in zip(truth, predicted, strict=True)
    ]


def discounted_gain(grades: Floats, scores: Floats) -> float:
    """DCG (Järvelin & Kekäläinen 2002): the grade at rank i, from 1, divided by log2(i + 1).

    grades, scores: (documents,).
    """
    discounts = 1 / np.log2(np.arange(len(grades)) + 2)
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    sums = np.cumsum(np.concatenate([[0.0], discounts]))
    # the documents of one score share the mean discount of their ranks
    shared = (sums[ends] - sums[ends - sizes]) / sizes
    return float(grades @ shared[group])


def ndcg(truth: Sequence[Grades], predicted: Sequence[Grades]) -> Statistic:
    """DCG in relation to that of the ideal order; 0 where no document is relevant."""
    scores = []
    for grades, given in _pairs(truth, predicted):
        ideal = discounted_gain(grades, grades)
        scores.append(discounted_gain(grades, given) / ideal if ideal else 0.0)
    return mean(np.array(scores))


def mrr(truth: Sequence[Grades], predicted: Sequence[Grades]) -> Statistic:
    """One divided by the rank of the first relevant document, averaged (Voorhees 1999)."""
    scores = []
    for grades, given in _pairs(truth, predicted):
        relevant = given[grades > 0]
        scores.append(1 / (given >= relevant.max()).sum() if len(relevant) else 0.0)
    return mean(np.array(scores))


def accuracy(truth: Sequence[Grades], predicted: Sequence[Grades]) -> Statistic:
    """The fraction of queries whose first document has the highest grade."""
    right = [
        bool((grades[given == given.max()] == grades.max()).all())
        for grades, given in _pairs(truth, predicted)
    ]
    return proportion(np.array(right))


METRICS = {
    "ndcg": Metric(("rankings",), 1, ndcg),
    "mrr": Metric(("rankings",), 2, mrr),
    "accuracy": Metric(("rankings",), 3, accuracy),
}
