"""Scores of predicted numbers: Pearson, Spearman, mean squared error.

Knows pairs of numbers only.
"""

from array import array
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..bootstrap import SEED, Floats, Ids, between, check_rows, draws
from ..score_with_ci import ScoreWithCI

LARGEST = 1e100
"""Beyond this, squares overflow."""
SMALLEST = 1e-12
"""A resample whose spread is less, as a share of the largest distance squared, has none."""


class Numbers:
    """True and predicted numbers, gathered batch by batch; 16 bytes per row."""

    def __init__(self) -> None:
        self._truth, self._predicted = array("d"), array("d")

    def add(self, truth: npt.ArrayLike, predicted: npt.ArrayLike) -> None:
        """Rows of a batch: (n,) finite numbers below 1e100.

        Raises:
            InputError: a number that is none, infinite or too large.
        """
        true, given = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
        assert true.shape == given.shape and true.ndim == 1, (true.shape, given.shape)
        for kind, numbers in (("true", true), ("predicted", given)):
            wrong = ~(np.abs(numbers) < LARGEST)  # catches what is not a number as well
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                raise InputError(
                    f"row {len(self) + row + 1}: the {kind} score is {numbers[row]}; "
                    f"scores must be finite numbers below {LARGEST:.0e}"
                )
        self._truth.frombytes(true.tobytes())
        self._predicted.frombytes(given.tobytes())

    def __len__(self) -> int:
        """Rows so far."""
        return len(self._truth)

    def figures(self, seed: int = SEED) -> list[ScoreWithCI]:
        """pearson, spearman, mean_squared_error.

        The correlations are 0 where one side is constant (one row is), as they are undefined.

        Raises:
            InputError: there are no rows.
        """
        check_rows(len(self))
        order = np.argsort(np.array(self._truth), kind="stable")
        rows = Rows.of(np.array(self._truth)[order], np.array(self._predicted)[order])
        each = np.ones(len(order), np.int64)
        value = rows.scores(each[None].astype(np.float64))[0]
        found = np.concatenate([rows.scores(drawn) for drawn in draws(each, seed)])
        names = ("pearson", "spearman", "mean_squared_error")
        return [between(name, float(value[i]), found[:, i]) for i, name in enumerate(names)]


def score_numbers(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, *, seed: int = SEED
) -> list[ScoreWithCI]:
    """pearson, spearman and mean_squared_error of (n,) numbers; see `Numbers`.

    Raises:
        InputError: there are no rows, or a number is not finite.
    """
    numbers = Numbers()
    numbers.add(truth, predicted)
    return numbers.figures(seed)


@dataclass(frozen=True)
class Ranks:
    """The distinct values of one side in their order, and which of them each row has."""

    order: Ids
    """(n,) rows by value."""
    starts: Ids
    """(v,) where each distinct value begins in `order`."""
    value: Ids
    """(n,) the place of each row's value among the distinct ones."""

    @classmethod
    def of(cls, numbers: Floats) -> Self:
        order = np.argsort(numbers, kind="stable")
        _, starts, value = np.unique(numbers[order], return_index=True, return_inverse=True)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return cls(order, starts, value[back])

    def within(self, drawn: Floats) -> tuple[Floats, Floats]:
        """The ranks in resamples, less their mean; equal values share the mean of their ranks.

        Args:
            drawn: (r, n) how often each row was drawn.

        Returns:
            (r, n) ranks by row, and (r,) the sum of their squares over all that was drawn.
        """
        counts = drawn.take(self.order, axis=1)
        if len(self.starts) < len(self.order):
            counts = np.add.reduceat(counts, self.starts, axis=1)
        # ranks count from 1: those of a value end at the sum so far, and their mean is
        # half of what this value holds, less one, before that end
        ranks = np.cumsum(counts, axis=1)
        ranks -= counts / 2
        ranks -= drawn.shape[1] / 2  # the halves of "less one" and of the mean cancel
        return ranks.take(self.value, axis=1), np.einsum("rv,rv,rv->r", counts, ranks, ranks)


@dataclass(frozen=True)
class Rows:
    """What both correlations need of the rows, sorted by truth so that one side lies in order."""

    moments: Floats
    """(n, 5) x, y, x², y², xy, each side shifted and scaled into [-1, 1]."""
    errors: Floats
    """(n,) (truth - predicted)²."""
    constant: bool
    """Whether a side has one value only."""
    x: Ranks
    y: Ranks

    @classmethod
    def of(cls, truth: Floats, predicted: Floats) -> Self:
        x, y = _scaled(truth), _scaled(predicted)
        constant = not (x.any() and y.any())
        moments = np.stack([x, y, x * x, y * y, x * y], axis=1)
        errors = (truth - predicted) ** 2
        return cls(moments, errors, constant, Ranks.of(truth), Ranks.of(predicted))

    def scores(self, drawn: Floats) -> Floats:
        """(r, n) how often each row was drawn -> (r, 3) both correlations, mean squared error."""
        error = drawn @ self.errors / drawn.shape[1]
        return np.stack([self.pearson(drawn), self.spearman(drawn), error], axis=1)

    def pearson(self, drawn: Floats) -> Floats:
        """The covariance over the root of both variances (r,)."""
        if self.constant:
            return np.zeros(len(drawn))
        x, y, xx, yy, xy = (drawn @ self.moments / drawn.shape[1]).T
        return _correlation(xy - x * y, xx - x * x, yy - y * y)

    def spearman(self, drawn: Floats) -> Floats:
        """Pearson's correlation of the ranks, with ties averaged (Spearman 1904)."""
        if self.constant:
            return np.zeros(len(drawn))
        x, xx = self.x.within(drawn)
        y, yy = self.y.within(drawn)
        xy = np.einsum("rn,rn,rn->r", drawn, x, y)
        scale = drawn.shape[1] ** 3  # what a sum of squared ranks grows with
        return _correlation(xy / scale, xx / scale, yy / scale)


def _scaled(numbers: Floats) -> Floats:
    """Shifted to mean 0 and scaled to largest 1; all 0 where the numbers are all the same."""
    if numbers.min() == numbers.max():
        return np.zeros_like(numbers)
    shifted = numbers / np.abs(numbers).max()  # first to 1, so that tiny numbers keep their places
    shifted = shifted - shifted.mean()
    largest = np.abs(shifted).max()
    return np.asarray(shifted / largest if largest else shifted)


def _correlation(xy: Floats, xx: Floats, yy: Floats) -> Floats:
    """(r,) covariance over the root of both variances; 0 where one of them is none."""
    sound = (xx > SMALLEST) & (yy > SMALLEST)
    root = np.sqrt(np.where(sound, xx * yy, 1.0))
    return np.asarray(np.where(sound, xy / root, 0.0).clip(-1.0, 1.0))
