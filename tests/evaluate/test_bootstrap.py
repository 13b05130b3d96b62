"""The interval: what it holds, how fast it is, and that it is the same every time."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from scriven.evaluate.bootstrap import (
    FEW_KINDS,
    RESAMPLES,
    ScoreWithCI,
    Statistic,
    bootstrap,
    draws,
    mean,
    proportion,
)
from scriven.evaluate.metrics.base import compute_metrics


def score(statistic: Statistic, seed: int = 0) -> ScoreWithCI:
    return bootstrap({"accuracy": statistic}, seed=seed)[0]


@pytest.mark.parametrize("kinds", [1, 5, FEW_KINDS, FEW_KINDS + 1])
def test_as_many_rows_are_drawn_as_there_are(kinds: int) -> None:
    counts = np.arange(kinds) % 3 + 1
    drawn = np.concatenate(list(draws(counts)))
    assert drawn.shape == (RESAMPLES, kinds)
    assert (drawn.sum(axis=1) == counts.sum()).all()
    # each row is drawn once on average, and about as often as a binomial number
    assert drawn.mean(axis=0) == pytest.approx(counts, abs=6 * np.sqrt(3 / RESAMPLES))
    expected = (counts * (1 - counts / counts.sum())).mean()
    assert drawn.var(axis=0).mean() == pytest.approx(expected, rel=0.1)


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(0).normal(3, 2, 4000)
    found = score(mean(values))
    half = 1.96 * values.std() / np.sqrt(4000)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.1 * half
    )


def held(share_of: float, rows: int, *, planted_bug: bool = False) -> float:
    """How often the interval of a drawn sample holds the true share."""
    random, hits = np.random.default_rng(2), 0
    for seed in range(300):
        right = random.random(rows) < share_of
        if planted_bug:  # each row ten times, as if there were more of them
            right = np.repeat(right, 10)
        found = score(proportion(right), seed)
        hits += found.low <= share_of <= found.high
    return hits / 300


def test_the_interval_holds_the_truth_in_95_of_100_cases() -> None:
    assert 0.91 <= held(0.7, 200) <= 0.98


def test_an_interval_of_repeated_rows_is_noticed_to_be_too_narrow() -> None:
    assert held(0.7, 200, planted_bug=True) < 0.6


@pytest.mark.parametrize(("rows", "bound"), [(1, 0.025), (20, 0.8316), (100, 0.9638)])
def test_all_rows_right_still_leaves_a_doubt(rows: int, bound: float) -> None:
    """The bounds of Clopper and Pearson, from tables of the binomial law."""
    found = score(proportion(np.ones(rows, bool)))
    assert (found.low, found.value, found.high) == (pytest.approx(bound, abs=1e-4), 1.0, 1.0)
    none = score(proportion(np.zeros(rows, bool)))
    assert (none.low, none.value, none.high) == (0.0, 0.0, pytest.approx(1 - bound, abs=1e-4))


def test_the_seed_decides_the_interval_and_not_the_value() -> None:
    random = np.random.default_rng(5)
    truth, predicted = random.integers(0, 3, 200), random.integers(0, 3, 200)
    first, again, other = (
        compute_metrics("labels", truth, predicted, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert [each.value for each in first] == [each.value for each in other]
    assert first[1].low != other[1].low


def test_ten_thousand_rows_take_a_second_or_two() -> None:
    random = np.random.default_rng(6)
    truth = random.normal(size=10_000)
    ids = random.integers(0, 20, 10_000)
    for kind, true, predicted in (
        ("numbers", truth, truth + random.normal(size=10_000)),
        ("labels", ids, np.where(truth > 0, ids, 0)),
    ):
        start = time.process_time()
        compute_metrics(kind, true, predicted)
        assert time.process_time() - start < 4


def test_a_score_is_plain_json_and_one_line() -> None:
    plain = ScoreWithCI("accuracy", 0.83201, 0.815, 0.849)
    assert json.loads(json.dumps(plain.to_dict())) == {
        "name": "accuracy", "value": 0.83201, "low": 0.815, "high": 0.849,
    }  # fmt: skip
    assert str(plain) == "accuracy 0.832 [0.815, 0.849]"
    signed = ScoreWithCI("bleu", 32.04, 31.0, 33.0, "tok:13a")
    assert signed.to_dict()["signature"] == "tok:13a"
    assert str(signed) == "bleu 32.0 [31.0, 33.0]"


def test_scores_hold_plain_numbers() -> None:
    labels = compute_metrics("labels", [0, 1, 1], [0, 1, 0])
    for each in (*labels, *compute_metrics("numbers", [1, 2, 3], [1, 3, 2])):
        assert {type(number) for number in (each.value, each.low, each.high)} == {float}


def test_metrics_need_no_torch() -> None:
    code = "import sys, scriven.evaluate.metrics.base; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
