"""Metrics of labels, choices and preferences: accuracy, macro F1 and Matthews correlation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..bootstrap import Floats, Ids, Statistic, proportion
from .base import UNKNOWN, Metric


@dataclass(frozen=True)
class LabelPairs:
    """The pairs of true and predicted label that occur: a confusion matrix without its zeros."""

    counts: Ids  # (k,) how many rows have each pair
    truth: Ids  # (k,) the true label of each pair, as a place among the L labels that occur
    predicted: Ids  # (k,) the predicted one
    labels: int  # L

    @classmethod
    def of(cls, truth: Ids, predicted: Ids) -> Self:
        """truth, predicted: (n,) label ids, or `UNKNOWN`."""
        known = int(max(truth.max(), predicted.max())) + 1
        # an unknown truth and a missing answer get ids of their own, so they are never equal
        truth = np.where(truth == UNKNOWN, known, truth)
        predicted = np.where(predicted == UNKNOWN, known + 1, predicted)
        # one number per pair of labels, so that equal rows are counted by one sort
        pairs, counts = np.unique(truth * (known + 2) + predicted, return_counts=True)  # (k,)
        true, answered = np.divmod(pairs, known + 2)  # (k,) each
        labels, places = np.unique(np.concatenate([true, answered]), return_inverse=True)
        return cls(counts, places[: len(pairs)], places[len(pairs) :], len(labels))

    def statistic(self, score: Callable[[Floats, Floats, Floats], Floats]) -> Statistic:
        """A metric of (true, predicted, correct), each (r, L) numbers of rows by label."""

        def resampled(drawn: Floats) -> Floats:
            return score(*self.by_label(drawn))

        value = resampled(self.counts[None].astype(np.float64))[0]
        return Statistic(float(value), self.counts, resampled)

    def by_label(self, drawn: Floats) -> tuple[Floats, Floats, Floats]:
        """(r, k) -> (r, L) rows that are truly, predictedly and correctly of each label."""
        right = self.truth == self.predicted  # (k,)
        return (
            self._sum(drawn, self.truth),
            self._sum(drawn, self.predicted),
            self._sum(drawn[:, right], self.truth[right]),
        )

    def _sum(self, drawn: Floats, label: Ids) -> Floats:
        """Adds the columns (r, k) of the same label (k,): (r, L)."""
        total = np.zeros((len(drawn), self.labels))
        order = np.argsort(label, kind="stable")
        present, starts = np.unique(label[order], return_index=True)  # (p,) of L labels
        if len(present):
            total[:, present] = np.add.reduceat(drawn[:, order], starts, axis=1)
        return total


def accuracy(truth: Ids, predicted: Ids) -> Statistic:
    """The fraction of rows with the right label or choice; an unknown truth is never right."""
    return proportion((truth == predicted) & (truth != UNKNOWN))


def macro_f1(true: Floats, predicted: Floats, correct: Floats) -> Floats:
    """The plain mean over labels of 2 · correct / (true + predicted), of labels that occur.

    true, predicted, correct: (r, L) rows of each label. Returns (r,).
    """
    either = true + predicted  # (r, L)
    occurs = either > 0
    f1 = np.divide(2 * correct, either, out=np.zeros_like(correct), where=occurs)
    return np.asarray(f1.sum(axis=1) / occurs.sum(axis=1))


def matthews(true: Floats, predicted: Floats, correct: Floats) -> Floats:
    """Matthews correlation (1975), over more than two labels Gorodkin's R_K (2004, equation 8).

    true, predicted, correct: (r, L) rows of each label. Returns (r,) from -1 to 1; 0, as it is
    undefined, where a side has one label only.
    """
    rows, right = true.sum(axis=1), correct.sum(axis=1)  # (r,) each
    covariance = right * rows - (true * predicted).sum(axis=1)
    root = np.sqrt((rows**2 - (true**2).sum(axis=1)) * (rows**2 - (predicted**2).sum(axis=1)))
    value = np.divide(covariance, root, out=np.zeros_like(covariance), where=root > 0)
    return np.asarray(value.clip(-1.0, 1.0))


METRICS = {
    "accuracy": Metric(("labels", "choices", "preferences"), 1, accuracy),
    "macro_f1": Metric(("labels",), 2, lambda *ids: LabelPairs.of(*ids).statistic(macro_f1)),
    "matthews": Metric(("labels",), 3, lambda *ids: LabelPairs.of(*ids).statistic(matthews)),
}
