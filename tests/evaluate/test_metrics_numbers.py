"""Scores of numbers against scipy, in whole and in every resample."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scriven.errors import InputError
from scriven.evaluate.bootstrap import ScoreWithCI, draws
from scriven.evaluate.metrics.base import compute_metrics
from scriven.evaluate.metrics.regression import METRICS


def score_numbers(truth: Any, predicted: Any) -> list[ScoreWithCI]:
    return compute_metrics("numbers", truth, predicted)


def rows(seed: int, count: int, places: int) -> tuple[np.ndarray, np.ndarray]:
    """Related numbers; few places make many of them equal."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=count)
    return truth.round(places), (truth + random.normal(size=count) ** 3).round(places)


def theirs(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    return [
        stats.pearsonr(truth, predicted).statistic,
        stats.spearmanr(truth, predicted).statistic,
        float(np.abs(truth - predicted).mean()),
        float(((truth - predicted) ** 2).mean()),
    ]


@pytest.mark.parametrize("places", [0, 1, 6])
@pytest.mark.parametrize("count", [3, 50, 2000])
def test_scores_equal_those_of_scipy(places: int, count: int) -> None:
    truth, predicted = rows(places + count, count, places)
    found = score_numbers(truth, predicted)
    assert [each.name for each in found] == list(METRICS)
    assert [each.value for each in found] == pytest.approx(theirs(truth, predicted), abs=1e-11)


@pytest.mark.parametrize("places", [0, 6])
def test_every_resample_is_scored_as_scipy_scores_those_rows(places: int) -> None:
    truth, predicted = rows(7, 40, places)
    order = np.argsort(truth)
    truth, predicted = truth[order], predicted[order]
    drawn = next(draws(np.ones(40, np.int64)))[:100]
    statistics = [metric.statistic(truth, predicted) for metric in METRICS.values()]
    found = np.stack([each.score(drawn) for each in statistics], axis=1)
    for scores, numbers in zip(found, drawn.astype(int), strict=True):
        again = np.repeat(truth, numbers), np.repeat(predicted, numbers)
        assert scores.tolist() == pytest.approx(theirs(*again), abs=1e-11)


def test_ranks_that_break_ties_by_place_are_noticed() -> None:
    """The planted bug: Spearman without averaging the ranks of equal numbers."""
    truth, predicted = rows(8, 200, 0)
    ordinal = [stats.rankdata(each, method="ordinal") for each in (truth, predicted)]
    wrong = stats.pearsonr(*ordinal).statistic
    assert abs(score_numbers(truth, predicted)[1].value - wrong) > 0.01


def test_scale_and_place_change_no_correlation() -> None:
    truth, predicted = rows(9, 100, 6)
    near = score_numbers(truth, predicted)
    far = score_numbers(truth * 1e-30, predicted * 1e30 + 1e33)
    for one, other in zip(near[:2], far[:2], strict=True):
        assert (one.low, one.value, one.high) == pytest.approx(
            (other.low, other.value, other.high), abs=1e-9
        )


def test_numbers_far_from_zero_correlate_as_near_it() -> None:
    """Such as seconds since 1970, which vary by a millionth of their size."""
    truth, predicted = rows(11, 50, 6)
    far = 1.7e9 + 1000 * truth, 1.7e9 + 1000 * predicted
    pearson = stats.pearsonr(truth, predicted).statistic
    assert score_numbers(*far)[0].value == pytest.approx(pearson, abs=1e-6)


@pytest.mark.parametrize(
    ("truth", "predicted", "errors"),
    [
        ([2.0], [3.0], [1.0, 1.0]),
        ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [1.9, 4.276667]),
        ([5.0, 5.0], [1.0, 9.0], [4.0, 16.0]),
    ],
)
def test_a_constant_side_correlates_with_nothing(
    truth: list[float], predicted: list[float], errors: list[float]
) -> None:
    found = score_numbers(truth, predicted)
    assert [each.value for each in found] == pytest.approx([0.0, 0.0, *errors], abs=1e-6)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1e200])
def test_a_number_that_is_none_names_its_row(wrong: float) -> None:
    with pytest.raises(InputError, match=r"^row 3: the predicted score is .*finite"):
        score_numbers([1.0, 1.0, 2.0], [1.0, 1.0, wrong])
    with pytest.raises(InputError, match="no rows to score"):
        score_numbers([], [])


finite = st.floats(-1e99, 1e99)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=20))
def test_any_numbers_give_sound_scores(pairs: list[tuple[float, float]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score_numbers([a for a, _ in pairs], [b for _, b in pairs])
    for each in found[:2]:
        assert -1 <= each.low <= each.value <= each.high <= 1
    assert 0 <= found[2].low <= found[2].value <= found[2].high < float("inf")
