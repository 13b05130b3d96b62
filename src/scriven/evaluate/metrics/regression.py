"""Metrics of numbers: Pearson and Spearman correlation, mean absolute and mean squared error."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ..bootstrap import Floats, Ids, Statistic
from .base import Metric, row_statistic

SMALLEST_VARIANCE = 1e-12
"""A resample with less variance, relative to the largest squared deviation, counts as constant."""


def mean_absolute_error(truth: Floats, predicted: Floats) -> Statistic:
    """In the unit of the numbers. truth, predicted: (n,) finite numbers."""
    errors = np.abs(truth - predicted)
    return row_statistic(len(errors), lambda drawn: drawn @ errors / drawn.shape[1])


def mean_squared_error(truth: Floats, predicted: Floats) -> Statistic:
    """truth, predicted: (n,) finite numbers."""
    errors = (truth - predicted) ** 2
    return row_statistic(len(errors), lambda drawn: drawn @ errors / drawn.shape[1])


def pearson(truth: Floats, predicted: Floats) -> Statistic:
    """Pearson correlation of (n,) finite numbers; 0 where a side is constant."""
    x, y = _scaled(truth), _scaled(predicted)
    constant = not (x.any() and y.any())
    moments = np.stack([x, y, x * x, y * y, x * y], axis=1)  # (n, 5)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        if constant:
            return np.zeros(len(drawn))
        mx, my, xx, yy, xy = (drawn @ moments / drawn.shape[1]).T
        return _correlation(xy - mx * my, xx - mx * mx, yy - my * my)

    return row_statistic(len(x), score)


def _scaled(numbers: Floats) -> Floats:
    """Shifted to mean 0 and scaled to magnitude 1; all 0 where the numbers are equal."""
    if numbers.min() == numbers.max():
        return np.zeros_like(numbers)
    shifted = numbers / np.abs(numbers).max()  # to magnitude 1 first: tiny numbers keep digits
    shifted = shifted - shifted.mean()
    largest = np.abs(shifted).max()
    return np.asarray(shifted / largest if largest else shifted)


def spearman(truth: Floats, predicted: Floats) -> Statistic:
    """Spearman's rank correlation (1904): Pearson's of the ranks, with ties averaged."""
    x, y = Ranks.of(truth), Ranks.of(predicted)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        (ranks_x, xx), (ranks_y, yy) = x.of_resamples(drawn), y.of_resamples(drawn)
        xy = np.einsum("rn,rn,rn->r", drawn, ranks_x, ranks_y)
        scale = drawn.shape[1] ** 3  # a sum of squared ranks grows with n³
        return _correlation(xy / scale, xx / scale, yy / scale)

    return row_statistic(len(truth), score)


@dataclass(frozen=True)
class Ranks:
    """The distinct values of one side in ascending order, and which of them each row has."""

    order: Ids  # (n,) rows by value
    starts: Ids  # (v,) where each distinct value begins in `order`
    value: Ids  # (n,) the place of each row's value among the distinct ones

    @classmethod
    def of(cls, numbers: Floats) -> Self:
        """numbers: (n,)."""
        order = np.argsort(numbers, kind="stable")
        _, starts, value = np.unique(numbers[order], return_index=True, return_inverse=True)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return cls(order, starts, value[back])

    def of_resamples(self, drawn: Floats) -> tuple[Floats, Floats]:
        """The ranks in resamples less their mean; equal values share the mean of their ranks.

        Args:
            drawn: (r, n) how often each row was drawn.

        Returns:
            (r, n) ranks by row, and (r,) the sum of their squares over all that was drawn.
        """
        counts = drawn.take(self.order, axis=1)
        if len(self.starts) < len(self.order):
            counts = np.add.reduceat(counts, self.starts, axis=1)  # (r, v)
        # Ranks count from 1: those of a value end at the sum so far, and their mean is
        # half of what this value holds, less one, before that end.
        ranks = np.cumsum(counts, axis=1)
        ranks -= counts / 2
        ranks -= drawn.shape[1] / 2  # the halves of "less one" and of the mean cancel
        return ranks.take(self.value, axis=1), np.einsum("rv,rv,rv->r", counts, ranks, ranks)


def _correlation(xy: Floats, xx: Floats, yy: Floats) -> Floats:
    """(r,) covariance over the root of both variances; 0 where a variance vanishes."""
    # a constant side has rounding errors for a variance, never exactly 0
    sound = (xx > SMALLEST_VARIANCE) & (yy > SMALLEST_VARIANCE)
    root = np.sqrt(np.where(sound, xx * yy, 1.0))
    return np.asarray(np.where(sound, xy / root, 0.0).clip(-1.0, 1.0))


METRICS = {
    "pearson": Metric(("numbers",), 1, pearson),
    "spearman": Metric(("numbers",), 2, spearman),
    "mean_absolute_error": Metric(("numbers",), 3, mean_absolute_error),
    "mean_squared_error": Metric(("numbers",), 4, mean_squared_error),
}
