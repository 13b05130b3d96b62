"""Finds the metrics of a kind of answers and computes them, each with its bootstrap interval.

A file of this folder holds `METRICS`: name -> `Metric`. None needs a model or torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import registry
from ...errors import InputError
from ..bootstrap import SEED, Floats, ScoreWithCI, Statistic, bootstrap, check_rows

UNKNOWN = -1
"""Label id of a true label that training never saw, and of a missing answer: always wrong."""
LARGEST = 1e100  # above this magnitude, squares overflow

Pair = tuple[Any, Any]  # (truth, predicted), of one entry per row


@dataclass(frozen=True)
class Metric:
    """A metric and where it belongs."""

    kinds: tuple[str, ...]  # answers that it scores: keys of KINDS
    order: int  # its place among the metrics of a table; the first is the main one
    statistic: Callable[[Any, Any], Statistic]  # of (truth, predicted), as `KINDS` has checked them


def compute_metrics(
    kind: str, truth: Any, predicted: Any, *, seed: int = SEED
) -> list[ScoreWithCI]:
    """Every metric for a kind of answers.

    Args:
        kind: labels, choices or preferences: (n,) ids from 0, or `UNKNOWN`; numbers: (n,) finite
            numbers; texts: n reference texts and n written ones; labelsets, tags: n lists of names
            each; spans: n lists of right answers, and n answers; rankings: n lists of grades and n
            of scores.

    Raises:
        InputError: there are no rows, or a number is NaN, infinite or too large.
        MissingExtra: the package that computes one of them is not installed.
    """
    truth, predicted = KINDS[kind](truth, predicted)
    assert len(truth) == len(predicted), (len(truth), len(predicted))
    check_rows(len(truth))
    package = __package__ or ""
    metrics: dict[str, Metric] = {}
    for file in registry.names(package):
        known: dict[str, Metric] = registry.module(package, file).METRICS
        metrics |= {name: metric for name, metric in known.items() if kind in metric.kinds}
    suited = sorted(metrics, key=lambda name: metrics[name].order)
    statistics = {name: metrics[name].statistic(truth, predicted) for name in suited}
    return bootstrap(statistics, seed=seed)


def _ids(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> Pair:
    sides = np.asarray(truth), np.asarray(predicted)
    for ids in sides:
        assert ids.ndim == 1, ids.shape
        assert not len(ids) or (ids.dtype.kind in "iu" and ids.min() >= UNKNOWN), ids.dtype
    return sides[0].astype(np.int64), sides[1].astype(np.int64)


def _numbers(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> Pair:
    """Both sides sorted by the true numbers."""
    x, y = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    assert x.shape == y.shape and x.ndim == 1, (x.shape, y.shape)
    for side, numbers in (("true", x), ("predicted", y)):
        wrong = ~(np.abs(numbers) < LARGEST)  # true for NaN as well
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"row {row + 1}: the {side} score is {numbers[row]}; "
                f"scores must be finite numbers below {LARGEST:.0e}"
            )
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


def _unchecked(truth: Any, predicted: Any) -> Pair:
    return truth, predicted


KINDS: dict[str, Callable[[Any, Any], Pair]] = {
    "labels": _ids, "choices": _ids, "preferences": _ids, "numbers": _numbers,
    "texts": _unchecked, "labelsets": _unchecked, "tags": _unchecked, "spans": _unchecked,
    "rankings": _unchecked,
}  # fmt: skip
"""Kind of answers -> the check of (truth, predicted) that metrics rely on."""


def row_statistic(rows: int, score: Callable[[Floats], Floats]) -> Statistic:
    """A metric to which every row is of its own kind."""
    each = np.ones(rows, np.int64)
    return Statistic(float(score(each[None].astype(np.float64))[0]), each, score)
