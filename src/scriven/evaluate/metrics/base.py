"""Finds the metrics of a kind of answers and computes them, and what several metrics share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ... import registry
from ...errors import InputError, MissingExtra
from ..bootstrap import SEED, Floats, Ids, ScoreWithCI, Statistic, bootstrap, check_rows

UNKNOWN = -1
"""Label id of a true label that training never saw, and of a missing answer: always wrong."""
LARGEST = 1e100
"""Above this magnitude, squares overflow."""
SMALLEST_VARIANCE = 1e-12
"""A resample with less variance, relative to the largest squared deviation, counts as constant."""

Pair = tuple[Any, Any]
"""(truth, predicted), of one entry per row."""


def compute_metrics(
    kind: str, truth: Any, predicted: Any, *, seed: int = SEED
) -> list[ScoreWithCI]:
    """Every metric for a kind of answers.

    Args:
        kind: labels or choices: (n,) ids from 0, or `UNKNOWN`; numbers: (n,) finite numbers;
            texts: n reference texts and n written ones.

    Raises:
        InputError: there are no rows, or a number is NaN, infinite or too large.
        MissingExtra: the package that computes one of them is not installed.
    """
    truth, predicted = KINDS[kind](truth, predicted)
    assert len(truth) == len(predicted), (len(truth), len(predicted))
    check_rows(len(truth))
    package = __package__ or ""
    metrics = {name: registry.module(package, name) for name in registry.names(package)}
    suited = [name for name, module in metrics.items() if kind in module.SCORES]
    suited.sort(key=lambda name: metrics[name].ORDER)
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


def _texts(references: Any, written: Any) -> Pair:
    return references, written


KINDS: dict[str, Callable[[Any, Any], Pair]] = {
    "labels": _ids, "choices": _ids, "numbers": _numbers, "texts": _texts,
}  # fmt: skip
"""Kind of answers -> the check of (truth, predicted) that metrics rely on."""


@dataclass(frozen=True)
class LabelPairs:
    """The pairs of true and predicted label that occur: a confusion matrix without its zeros."""

    counts: Ids
    """(k,) how many rows have each pair."""
    truth: Ids
    """(k,) the true label of each pair, as a place among the L labels that occur."""
    predicted: Ids
    """(k,) the predicted one."""
    labels: int
    """L."""

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


def correlation(xy: Floats, xx: Floats, yy: Floats) -> Floats:
    """(r,) covariance over the root of both variances; 0 where a variance vanishes."""
    # a constant side has rounding errors for a variance, never exactly 0
    sound = (xx > SMALLEST_VARIANCE) & (yy > SMALLEST_VARIANCE)
    root = np.sqrt(np.where(sound, xx * yy, 1.0))
    return np.asarray(np.where(sound, xy / root, 0.0).clip(-1.0, 1.0))


def row_statistic(rows: int, score: Callable[[Floats], Floats]) -> Statistic:
    """A metric to which every row is of its own kind."""
    each = np.ones(rows, np.int64)
    return Statistic(float(score(each[None].astype(np.float64))[0]), each, score)


def sacrebleu_statistic(name: str, references: list[str], written: list[str]) -> Statistic:
    """A metric of sacrebleu, whose counts of each text are taken once and then resampled.

    Args:
        name: BLEU or CHRF.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise MissingExtra("sacrebleu", "eval", "scoring texts") from error

    metric: Any = BLEU(force=True) if name == "BLEU" else CHRF()
    counts = np.array(metric._extract_corpus_statistics(written, [references]), np.float64)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        sums = (drawn @ counts).astype(np.int64).tolist()  # (r, s) sums of s counts per text
        return np.array([metric._compute_score_from_stats(each).score for each in sums])

    one = row_statistic(len(counts), score)
    return Statistic(one.value, one.counts, score, str(metric.get_signature()))
