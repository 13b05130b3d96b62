"""Scores of a fine-tuned model's answers to the rows of a table, beside trivial baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..generate.predict import Prediction
from ..tasks.shared.columns import Row
from ..tasks.shared.supervised import SupervisedTask
from .baselines.base import baselines_for, fit
from .bootstrap import ScoreWithCI, bootstrap, check_rows, proportion
from .metrics.base import KINDS, compute_metrics
from .preferences import reference_baseline, reward_statistics

MAX_CONFUSION_LABELS = 30  # A confusion matrix of more labels is too large to look through

MAIN_METRIC = {
    "labels": "accuracy", "choices": "accuracy", "numbers": "pearson", "texts": "rouge_l",
    "turns": "ended", "labelsets": "micro_f1", "tags": "f1", "spans": "exact_match",
    "rankings": "ndcg", "preferences": "accuracy",
}  # fmt: skip
"""Kind of answers -> the metric that stands first in tables and sentences."""

Scores = dict[str, dict[str, Any]]  # metric -> `value`, and `low` and `high` of its 95 % interval


def evaluate_rows(
    name: str,
    task: type[SupervisedTask],
    rows: Sequence[Row],
    answers: Sequence[Prediction],
    label_info: Mapping[str, Any],
    train: Sequence[Row] = (),
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The scores of a model on rows with right answers, beside baselines fitted to `train`.

    Args:
        name: of the task.
        answers: of the model, one for each row.
        label_info: what fine-tuning recorded of the labels or scores.
        notes: what the user should know of these rows.

    Returns:
        `task`, `rows`, `scores`, `cut` (rows longer than the context), `baseline` and `notes`.
    """
    return {
        "task": name,
        "rows": len(rows),
        "scores": score_rows(task, rows, answers, label_info),
        "cut": sum(answer.cut > 0 for answer in answers),
        "baseline": baseline_scores(name, task, train, rows, label_info) if train else {},
        "notes": list(notes),
    }


def score_rows(
    task: type[SupervisedTask],
    rows: Sequence[Row],
    answers: Sequence[Prediction],
    label_info: Mapping[str, Any],
) -> Scores:
    """The metrics of a task; arguments as `evaluate_rows`.

    Raises:
        InputError: there are no rows. MissingExtra: sacrebleu is not installed.
    """
    written = task.writes_answers()
    predicted: list[Any] = [answer.text if written else answer.value for answer in answers]
    scores = _metrics(task, rows, predicted, label_info)
    if written:
        ended = proportion(np.array([answer.ended for answer in answers]))
        scores |= _to_dict(bootstrap({"ended": ended}))
    if task.ANSWER_TYPE == "preferences":
        scores |= _to_dict(bootstrap(reward_statistics([each.probabilities for each in answers])))
    return scores


def check_metrics(task: type[SupervisedTask]) -> None:
    """Raises MissingExtra where a package of a metric is missing, before anything is computed."""
    if task.ANSWER_TYPE == "texts":  # by sacrebleu
        compute_metrics(task.ANSWER_TYPE, ["a"], ["a"])


def confusion_matrix(
    task: type[SupervisedTask],
    rows: Sequence[Row],
    answers: Sequence[Prediction],
    label_info: Mapping[str, Any],
) -> list[list[int]] | None:
    """How often each true label (a row) was predicted as each label (a column); None where the
    task has no labels or more than `MAX_CONFUSION_LABELS`."""
    if task.ANSWER_TYPE != "labels" or len(label_info["labels"]) > MAX_CONFUSION_LABELS:
        return None
    names = list(label_info["labels"])
    counts = [[0] * len(names) for _ in names]  # (true label, predicted label)
    for row, answer in zip(rows, answers, strict=True):
        counts[names.index(task.gold_answer(row))][int(answer.value)] += 1
    return counts


def baseline_scores(
    name: str,
    task: type[SupervisedTask],
    train: Sequence[Row],
    rows: Sequence[Row],
    label_info: Mapping[str, Any],
) -> dict[str, Any]:
    """Baseline -> its `note` (what was chosen by fitting) and `scores` on rows."""
    scores = {}
    for baseline in baselines_for(name):
        fitted = fit(baseline, train)
        predicted = fitted([task.shown(row) for row in rows])
        if task.ANSWER_TYPE == "labels":
            predicted = [label_info["labels"].index(label) for label in predicted]
        metrics = _metrics(task, rows, predicted, label_info)
        scores[baseline] = {"note": fitted.note, "scores": metrics}
    if task.ANSWER_TYPE == "preferences":
        scores |= reference_baseline(rows)
    return scores


def main_metric(task: type[SupervisedTask], name: str) -> str:
    """The metric that stands first in tables and sentences."""
    return "bleu" if name == "translate" else MAIN_METRIC.get(task.ANSWER_TYPE, "rouge_l")


def describe_baselines(scores: Mapping[str, Any], metric: str) -> str:
    """The baselines in a sentence, by one metric; empty where there are none."""
    parts = []
    for name, each in scores.items():
        if metric in each["scores"]:
            value = each["scores"][metric]["value"]
            parts.append(f"{name.replace('_', ' ')} {metric.replace('_', ' ')} {value:.3f}")
    return f"trivial baselines: {', '.join(parts)}" if parts else ""


def _metrics(
    task: type[SupervisedTask],
    rows: Sequence[Row],
    predicted: Sequence[Any],
    label_info: Mapping[str, Any],
) -> Scores:
    check_rows(len(rows))
    if task.ANSWER_TYPE not in KINDS:  # a conversation has no reference answer
        return {}
    truth = [task.gold_answer(row) for row in rows]
    if task.ANSWER_TYPE == "labels":
        names = list(label_info["labels"])
        truth = [names.index(label) for label in truth]
    if task.ANSWER_TYPE in ("labels", "choices", "preferences"):
        predicted = [int(each) for each in predicted]
    return _to_dict(compute_metrics(task.ANSWER_TYPE, truth, predicted))


def _to_dict(scores: Sequence[ScoreWithCI]) -> Scores:
    return {
        score.name: {key: value for key, value in score.to_dict().items() if key != "name"}
        for score in scores
    }
