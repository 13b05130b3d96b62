"""Spearman's rank correlation (1904): Pearson's of the ranks, with ties averaged."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ..bootstrap import Floats, Ids, Statistic
from .base import correlation, row_statistic

SCORES = ("numbers",)
ORDER = 2


def statistic(truth: Floats, predicted: Floats) -> Statistic:
    """truth, predicted: (n,) finite numbers; 0 where a side is constant."""
    x, y = Ranks.of(truth), Ranks.of(predicted)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        (ranks_x, xx), (ranks_y, yy) = x.of_resamples(drawn), y.of_resamples(drawn)
        xy = np.einsum("rn,rn,rn->r", drawn, ranks_x, ranks_y)
        scale = drawn.shape[1] ** 3  # a sum of squared ranks grows with n³
        return correlation(xy / scale, xx / scale, yy / scale)

    return row_statistic(len(truth), score)


@dataclass(frozen=True)
class Ranks:
    """The distinct values of one side in ascending order, and which of them each row has."""

    order: Ids
    """(n,) rows by value."""
    starts: Ids
    """(v,) where each distinct value begins in `order`."""
    value: Ids
    """(n,) the place of each row's value among the distinct ones."""

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
