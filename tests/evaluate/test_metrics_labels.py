"""Scores of labels against scikit-learn, in whole and in every resample."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from scriven.errors import InputError
from scriven.evaluate.bootstrap import ScoreWithCI, draws, paired_difference
from scriven.evaluate.metrics.base import UNKNOWN, compute_metrics
from scriven.evaluate.metrics.classification import LabelPairs, macro_f1, matthews


def score_labels(truth: Any, predicted: Any) -> list[ScoreWithCI]:
    return compute_metrics("labels", truth, predicted)


def rows(seed: int, count: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Right in about half of the cases, with rare and frequent labels."""
    random = np.random.default_rng(seed)
    truth = (random.integers(0, labels, count) * random.random(count)).astype(np.int64)
    return truth, np.where(random.random(count) < 0.5, truth, random.integers(0, labels, count))


def theirs(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where a label is missing
        return [
            accuracy_score(truth, predicted),
            f1_score(truth, predicted, average="macro"),
            matthews_corrcoef(truth, predicted),
        ]


@pytest.mark.parametrize("labels", [2, 3, 40])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_scores_equal_those_of_scikit_learn(labels: int, count: int) -> None:
    truth, predicted = rows(labels + count, count, labels)
    found = score_labels(truth, predicted)
    assert [each.name for each in found] == ["accuracy", "macro_f1", "matthews"]
    assert [each.value for each in found] == pytest.approx(theirs(truth, predicted), abs=1e-12)


def test_every_resample_is_scored_as_scikit_learn_scores_those_rows() -> None:
    truth, predicted = rows(3, 60, 9)
    pairs = LabelPairs.of(truth, predicted)
    drawn = np.concatenate(list(draws(pairs.counts)))[:100]
    f1, correlation = macro_f1(*pairs.by_label(drawn)), matthews(*pairs.by_label(drawn))
    for i, numbers in enumerate(drawn.astype(int)):
        expected = theirs(np.repeat(pairs.truth, numbers), np.repeat(pairs.predicted, numbers))
        assert [f1[i], correlation[i]] == pytest.approx(expected[1:], abs=1e-12)


def test_a_mean_over_labels_that_are_not_there_is_noticed() -> None:
    """The planted bug: dividing by all labels that a model knows."""
    truth, predicted = rows(3, 20, 9)
    wrong = f1_score(truth, predicted, average="macro", labels=range(12), zero_division=0)
    assert score_labels(truth, predicted)[1].value > wrong + 0.01


def test_a_label_never_seen_in_training_is_never_right() -> None:
    """Nor is a missing answer."""
    found = score_labels([0, 1, UNKNOWN, UNKNOWN, 0], [0, 1, 1, UNKNOWN, UNKNOWN])
    assert found[0].value == pytest.approx(0.4)
    pairs = LabelPairs.of(np.array([UNKNOWN, UNKNOWN, 0]), np.array([1, UNKNOWN, UNKNOWN]))
    assert not (pairs.truth == pairs.predicted).any()


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ([0], [0], (1.0, 1.0, 0.0)),  # one row
        ([0], [1], (0.0, 0.0, 0.0)),
        ([1, 1, 1], [1, 1, 1], (1.0, 1.0, 0.0)),  # one class only
        ([0, 1, 1], [1, 1, 1], (2 / 3, 0.4, 0.0)),  # one answer for all
        ([0, 1], [1, 0], (0.0, 0.0, -1.0)),
    ],
)
def test_what_has_no_spread_has_the_documented_value(
    truth: list[int], predicted: list[int], expected: tuple[float, float, float]
) -> None:
    found = score_labels(truth, predicted)
    assert [each.value for each in found] == pytest.approx(expected)


def test_no_rows_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="no rows to score"):
        score_labels([], [])
    with pytest.raises(InputError, match="no rows to score"):
        paired_difference([], [])


ids = st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(ids)
def test_any_labels_give_sound_scores(pairs: list[tuple[int, int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score_labels([a for a, _ in pairs], [b for _, b in pairs])
    for each in found:
        assert -1 <= each.low <= each.value <= each.high <= 1


def test_pairing_the_rows_makes_a_small_difference_sure() -> None:
    """Resampling each side alone, the planted bug, would leave it in doubt."""
    random = np.random.default_rng(0)
    b = random.random(500) < 0.7
    a = b | (np.arange(500) % 25 == 0)
    found = paired_difference(a, b)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.low > 0
    alone = [
        a[random.integers(0, 500, 500)].mean() - b[random.integers(0, 500, 500)].mean()
        for _ in range(1000)
    ]
    assert np.percentile(alone, 2.5) < 0


def test_the_paired_interval_is_that_of_resampled_rows() -> None:
    random = np.random.default_rng(1)
    a, b = random.random(200) < 0.8, random.random(200) < 0.7
    found = paired_difference(a, b)
    picks = random.integers(0, 200, (20_000, 200))
    low, high = np.percentile(a[picks].mean(1) - b[picks].mean(1), [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)


def test_a_model_does_not_differ_from_itself() -> None:
    right = np.arange(50) % 3 == 0
    found = paired_difference(right, right)
    assert (found.low, found.value, found.high) == (0.0, 0.0, 0.0)
