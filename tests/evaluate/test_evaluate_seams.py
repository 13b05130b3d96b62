"""A new metric or a new baseline is one new file; nothing else has to change."""

from collections.abc import Callable
from typing import Any

import pytest

from scriven import registry
from scriven.evaluate.baselines.base import baselines_for, fit
from scriven.evaluate.metrics.base import KINDS, compute_metrics
from scriven.evaluate.table import baseline_scores, evaluate_rows
from scriven.generate.predict import Prediction

AddFile = Callable[[str, str, str], None]

METRIC = '''
"""The greatest difference."""
import numpy as np
from scriven.evaluate.bootstrap import Statistic
from scriven.evaluate.metrics.base import Metric, row_statistic


def max_error(truth, predicted):
    errors = np.abs(truth - predicted)
    return row_statistic(len(errors), lambda drawn: ((drawn > 0) * errors).max(1))


METRICS = {"max_error": Metric(("numbers",), 9, max_error)}
'''

BASELINE = '''
"""The last label."""
from scriven.evaluate.baselines.base import FittedBaseline

TASKS = ("classify",)


def fit(rows):
    label = list(rows)[-1]["label"]
    return FittedBaseline("the last one", lambda rows: [label] * len(rows))
'''


NUMBERS = ["pearson", "spearman", "mean_absolute_error", "mean_squared_error"]


def test_a_metric_is_one_file(add_file: AddFile) -> None:
    add_file("scriven.evaluate.metrics", "max_error", METRIC)
    scores = {each.name: each for each in compute_metrics("numbers", [1, 2, 3], [1, 2.5, 3])}
    assert list(scores) == [*NUMBERS, "max_error"]
    worst = scores["max_error"]
    assert (worst.low, worst.value, worst.high) == (0.0, 0.5, 0.5)


def test_a_baseline_is_one_file(add_file: AddFile) -> None:
    add_file("scriven.evaluate.baselines", "last", BASELINE)
    assert baselines_for("classify") == ["bag_of_words", "last", "majority"]
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    assert fit("last", rows)(rows) == ["y", "y"]
    task = registry.module("scriven.tasks", "classify").Task
    found = baseline_scores("classify", task, rows, rows, {"labels": ["x", "y"]})
    assert found["last"]["note"] == "the last one"
    assert found["last"]["scores"]["accuracy"]["value"] == 0.5


def test_what_a_test_added_is_gone_afterwards() -> None:
    assert "max_error" not in registry.names("scriven.evaluate.metrics")
    assert "last" not in registry.names("scriven.evaluate.baselines")


@pytest.mark.parametrize("name", registry.names("scriven.evaluate.metrics"))
def test_every_metric_names_what_it_scores(name: str) -> None:
    module: Any = registry.module("scriven.evaluate.metrics", name)
    assert module.METRICS
    for metric in module.METRICS.values():
        assert set(metric.kinds) <= set(KINDS)
        assert metric.order >= 1
    assert module.__doc__


def test_rows_are_scored_beside_the_baselines_of_their_task() -> None:
    task = registry.module("scriven.tasks", "classify").Task
    train = [{"text": "a b", "label": "x"}] * 3 + [{"text": "c", "label": "y"}]
    answers = [Prediction("x", 0.0), Prediction("y", 1.0), Prediction("x", 0.0, cut=2)]
    rows = [{"text": "a", "label": "x"}, {"text": "c", "label": "y"}, {"text": "d", "label": "y"}]
    info = {"labels": ["x", "y"]}
    found = evaluate_rows("classify", task, rows, answers, info, train, ["a note"])
    assert found["scores"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["baseline"]["majority"]["scores"]["accuracy"]["value"] == pytest.approx(1 / 3)
    assert (found["rows"], found["cut"], found["notes"]) == (3, 1, ["a note"])
    assert evaluate_rows("classify", task, rows, answers, info)["baseline"] == {}
