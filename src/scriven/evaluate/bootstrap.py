"""The percentile bootstrap (Efron & Tibshirani 1993, chapter 13): a metric and its 95 % interval.

The rows are resampled with replacement 1,000 times; the interval holds the middle 95 % of what the
metric of a resample is. A metric only needs to know how often each row was drawn, and equal rows
are counted together, so few kinds of rows (right or wrong, pairs of labels) are cheap.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
SEED = 0
PERCENTILES = (2.5, 97.5)  # ends of the interval that holds 95 % of the resampled values

FEW_KINDS = 1000
"""Up to this many kinds of rows, the count of each is drawn at once rather than row by row."""
CHUNK = 1 << 17  # numbers in memory at a time: they fit a CPU's cache, whatever the number of rows


@dataclass(frozen=True)
class ScoreWithCI:
    """A metric of one set of rows with its 95 % confidence interval."""

    name: str
    value: float  # of all rows, each once
    low: float  # lower end of the interval; never above the value
    high: float  # upper end of the interval; never below the value
    signature: str | None = None
    """How a metric with many variants was computed (sacrebleu's signature), for repeating it."""

    def to_dict(self) -> dict[str, str | float]:
        """Plain values for JSON, without `signature` where there is none."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def __str__(self) -> str:
        """For example `accuracy 0.832 [0.815, 0.849]`; metrics out of 100 with one decimal."""
        places = 3 if self.signature is None else 1
        low, high = f"{self.low:.{places}f}", f"{self.high:.{places}f}"
        return f"{self.name} {self.value:.{places}f} [{low}, {high}]"


@dataclass(frozen=True)
class Statistic:
    """A metric of some rows, as a function of how often each kind of row is drawn."""

    value: float  # of the rows as they are
    counts: Ids  # (k,) how many rows there are of each kind
    score: Callable[[Floats], Floats]
    """(r, k) how often each kind is drawn in each of r resamples -> (r,) values."""
    signature: str | None = None
    interval: tuple[float, float] | None = None
    """An exact interval, where there is one, in place of the bootstrap's."""


def bootstrap(statistics: Mapping[str, Statistic], *, seed: int = SEED) -> list[ScoreWithCI]:
    """Each statistic, by name, with its interval; those of the same counts share resamples."""
    scores: dict[str, list[Floats]] = {name: [] for name in statistics}
    # 1. statistics of the same kinds of rows: drawing costs more than scoring, so they share draws
    groups: list[list[str]] = []
    for name, one in statistics.items():
        if one.interval is not None or len(one.counts) == 1:
            continue  # exact, or all rows are alike and so is every resample
        for group in groups:
            if np.array_equal(statistics[group[0]].counts, one.counts):
                group.append(name)
                break
        else:
            groups.append([name])
    # 2. a few resamples at a time, scored by every statistic of the group
    for group in groups:
        for drawn in draws(statistics[group[0]].counts, seed):
            for name in group:
                scores[name].append(statistics[name].score(drawn))  # (r, k) -> (r,)
    return [_interval(name, one, scores[name]) for name, one in statistics.items()]


def _interval(name: str, one: Statistic, scores: list[Floats]) -> ScoreWithCI:
    if one.interval is not None:
        low, high = one.interval
    elif scores:
        low, high = (float(end) for end in np.percentile(np.concatenate(scores), PERCENTILES))
    else:
        low = high = one.value
    # widened where the value itself lies outside the middle 95 %
    return ScoreWithCI(name, one.value, min(low, one.value), max(high, one.value), one.signature)


def draws(counts: Ids, seed: int = SEED) -> Iterator[Floats]:
    """How often each kind of row is drawn, a few resamples at a time; `RESAMPLES` in all.

    counts: (k,) how many rows there are of each kind; all above 0. Yields (r, k).
    """
    kinds, rows = len(counts), int(counts.sum())
    assert kinds and counts.min() > 0
    generator = np.random.default_rng(seed)
    if kinds <= FEW_KINDS:  # drawing rows and counting their kinds is a multinomial draw
        for size in _chunks(kinds):
            yield generator.multinomial(rows, counts / rows, size).astype(np.float64)
        return
    kind = np.repeat(np.arange(kinds), counts)  # (rows,)
    for size in _chunks(rows):
        drawn = kind.take(generator.integers(0, rows, (size, rows)))  # (size, rows)
        # one resample at a time, so that its numbers stay in the CPU's cache
        yield np.stack([np.bincount(each, minlength=kinds) for each in drawn]).astype(np.float64)


def _chunks(numbers: int) -> Iterator[int]:
    """How many resamples to make at a time when each holds so many numbers."""
    step = max(1, CHUNK // numbers)
    for done in range(0, RESAMPLES, step):
        yield min(step, RESAMPLES - done)


def mean(values: Floats, signature: str | None = None) -> Statistic:
    """The mean of one number per row. values: (n,), at least one."""
    kinds, counts = np.unique(values, return_counts=True)  # (k,) each
    rows = len(values)
    value = float(kinds @ counts / rows) if len(kinds) > 1 else float(kinds[0])
    return Statistic(value, counts, lambda drawn: drawn @ kinds / rows, signature)


def proportion(right: npt.NDArray[np.bool_]) -> Statistic:
    """The fraction of rows that are right. right: (n,), at least one.

    Where all rows agree, so does every resample, as if there were no doubt. The exact bound of a
    binomial proportion (Clopper & Pearson 1934) takes its place: of n rows, all right, the true
    proportion is above 0.025 ** (1 / n).
    """
    one = mean(right.astype(np.float64))
    bound = (PERCENTILES[0] / 100) ** (1 / len(right))
    exact = {1.0: (bound, 1.0), 0.0: (0.0, 1.0 - bound)}.get(one.value)
    return Statistic(one.value, one.counts, one.score, interval=exact)


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, *, name: str = "difference", seed: int = SEED
) -> ScoreWithCI:
    """How much better model a is than b on the same rows; significant where 0 is outside.

    Two overlapping intervals prove nothing, since hard rows are hard for both models. So each
    row's difference is resampled (Koehn 2004, Statistical Significance Tests, section 4).
    a, b: (n,) whether each row was right, or any score per row, in the same order of rows.

    Raises:
        InputError: there are no rows.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert first.shape == second.shape and first.ndim == 1, (first.shape, second.shape)
    check_rows(len(first))
    return bootstrap({name: mean(first - second)}, seed=seed)[0]


def check_rows(count: int) -> None:
    """Raises InputError where there is nothing to score."""
    if not count:
        raise InputError("there are no rows to score: give data with at least one row")
