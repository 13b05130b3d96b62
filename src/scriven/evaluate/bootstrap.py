"""The percentile bootstrap (Efron & Tibshirani 1993, chapter 13): how far would other rows move it?

The rows are drawn again, as many as there are, with replacement, 1,000 times; the score of each
such set is computed, and the middle 95 % of these scores are the interval. What a score needs is
only how often each row was drawn. Rows that are alike are counted together, so that a score made
of few kinds of rows costs little, however many rows there are.

The draws depend on the seed and on the number of rows of each kind alone. Knows no score.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .score_with_ci import ScoreWithCI

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
SEED = 0
MIDDLE = (2.5, 97.5)
"""Percentiles between which 95 % of the resampled scores lie."""

FEW = 1000
"""Up to so many kinds of rows, the numbers of each are drawn at once rather than row by row."""
AT_ONCE = 1 << 17
"""Numbers held at a time: small enough for a processor's cache, and for any number of rows."""


def draws(counts: Ids, seed: int = SEED) -> Iterator[Floats]:
    """How often each kind of row is drawn, a few resamples at a time.

    Args:
        counts: (k,) how many rows there are of each kind; all above 0.

    Yields:
        (r, k) whole numbers, each row of which adds up to the number of rows. All the r together
        are `RESAMPLES`.
    """
    kinds, rows = len(counts), int(counts.sum())
    assert kinds and counts.min() > 0
    generator = np.random.default_rng(seed)
    if kinds <= FEW:  # drawing rows and counting their kinds is drawing from a multinomial
        for size in _sizes(kinds):
            yield generator.multinomial(rows, counts / rows, size).astype(np.float64)
        return
    kind = np.repeat(np.arange(kinds), counts)
    for size in _sizes(rows):
        drawn = kind.take(generator.integers(0, rows, (size, rows)))
        # one resample at a time, whose numbers stay in the processor's cache
        yield np.stack([np.bincount(each, minlength=kinds) for each in drawn]).astype(np.float64)


def _sizes(numbers: int) -> Iterator[int]:
    """Resamples to make at a time, each of so many numbers."""
    step = max(1, AT_ONCE // numbers)
    for done in range(0, RESAMPLES, step):
        yield min(step, RESAMPLES - done)


def figure(
    name: str,
    value: float,
    counts: Ids,
    score: Callable[[Floats], Floats],
    *,
    signature: str | None = None,
    seed: int = SEED,
) -> ScoreWithCI:
    """A score with its interval.

    Args:
        value: of the rows as they are.
        counts: (k,) rows of each kind.
        score: (r, k) numbers of rows drawn of each kind -> (r,) scores.
    """
    if len(counts) == 1:  # all rows are alike: so is every resample
        return ScoreWithCI(name, value, value, value, signature)
    scores = np.concatenate([score(each) for each in draws(counts, seed)])
    return between(name, value, scores, signature)


def between(name: str, value: float, scores: Floats, signature: str | None = None) -> ScoreWithCI:
    """The middle 95 % of resampled scores, widened where the value itself is not among them."""
    low, high = (float(bound) for bound in np.percentile(scores, MIDDLE))
    return ScoreWithCI(name, value, min(low, value), max(high, value), signature)


def mean(
    name: str, values: Floats, *, signature: str | None = None, seed: int = SEED
) -> ScoreWithCI:
    """The mean of one number per row, with its interval. values: (n,), at least one."""
    kinds, counts = np.unique(values, return_counts=True)
    rows = len(values)
    value = float(kinds @ counts / rows) if len(kinds) > 1 else float(kinds[0])
    return figure(
        name, value, counts, lambda drawn: drawn @ kinds / rows, signature=signature, seed=seed
    )


def share(name: str, right: npt.NDArray[np.bool_], *, seed: int = SEED) -> ScoreWithCI:
    """The share of rows that are right, with its interval. right: (n,), at least one.

    Where all rows agree, so does every resample, as if nothing were in doubt. The exact bound of a
    binomial share (Clopper & Pearson 1934) takes that place: of n rows, all right, the true share
    is above 0.025 ** (1 / n).
    """
    found = mean(name, right.astype(np.float64), seed=seed)
    bound = (MIDDLE[0] / 100) ** (1 / len(right))
    if found.value == 1.0:
        return ScoreWithCI(name, 1.0, bound, 1.0)
    if found.value == 0.0:
        return ScoreWithCI(name, 0.0, 0.0, 1.0 - bound)
    return found


def check_rows(count: int) -> None:
    """Raises InputError where there is nothing to score."""
    if not count:
        raise InputError("there are no rows to score: give data with at least one row")
