"""How well a fine-tuned model answers the rows of a table, and what something trivial reaches."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..generate.predict import Answer
from ..tasks.shared.columns import Row
from ..tasks.shared.examples import TableTask
from .baselines.base import fit, suited
from .metrics import ScoreWithCI, score_labels, score_numbers, score_texts

MOST_LABELS = 30
"""Labels whose confusions are counted."""

Scores = dict[str, dict[str, Any]]
"""By name: value, and low and high of its 95 % interval."""


def score_rows(
    task: type[TableTask], rows: Sequence[Row], answers: Sequence[Answer], about: Mapping[str, Any]
) -> Scores:
    """The scores of a task.

    Args:
        rows: with the right answers.
        answers: of the model, one for each row.
        about: what the task's `survey` found: label names.

    Raises:
        InputError: there are no rows. MissingExtra: what scores texts is not installed.
    """
    said: list[Any] = [answer.text if _texts(task) else answer.value for answer in answers]
    scores = _scores(task, rows, said, about)
    if task.SCORES in ("texts", "turns"):
        ended = [int(answer.ended) for answer in answers]
        scores["ended"] = _plain(score_labels([1] * len(ended), ended, 2))["accuracy"]
    return scores


def confusion(
    task: type[TableTask], rows: Sequence[Row], answers: Sequence[Answer], about: Mapping[str, Any]
) -> list[list[int]] | None:
    """How often each label (a row) was given as each label (a column); None where there are none,
    or more than a person can look through."""
    if task.SCORES != "labels" or len(about["labels"]) > MOST_LABELS:
        return None
    names = list(about["labels"])
    counts = [[0] * len(names) for _ in names]
    for row, answer in zip(rows, answers, strict=True):
        counts[names.index(task.truth(row))][int(answer.value)] += 1
    return counts


def baselines(
    name: str,
    task: type[TableTask],
    train: Sequence[Row],
    rows: Sequence[Row],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """What each trivial baseline for a task reaches on rows, fitted to training rows.

    Returns:
        By the baseline's name: `note`, what was settled by fitting, and its `scores`.
    """
    found = {}
    for each in suited(name):
        fitted = fit(each, train)
        said = fitted([task.without_answer(row) for row in rows])
        if task.SCORES == "labels":
            said = [about["labels"].index(label) for label in said]
        found[each] = {"note": fitted.note, "scores": _scores(task, rows, said, about)}
    return found


def main_score(task: type[TableTask], name: str) -> str:
    """The score that stands first in tables and sentences."""
    usual = {"labels": "accuracy", "choices": "accuracy", "numbers": "pearson", "turns": "ended"}
    return usual.get(task.SCORES, "bleu" if name == "translate" else "rouge_l")


def tell(found: Mapping[str, Any], score: str) -> str:
    """The baselines in a sentence, by one score; empty where there are none."""
    parts = []
    for name, each in found.items():
        if score in each["scores"]:
            value = each["scores"][score]["value"]
            parts.append(f"{name.replace('_', ' ')} {score.replace('_', ' ')} {value:.3f}")
    return f"trivial baselines: {', '.join(parts)}" if parts else ""


def _texts(task: type[TableTask]) -> bool:
    return task.SCORES in ("texts", "turns")


def _scores(
    task: type[TableTask], rows: Sequence[Row], said: Sequence[Any], about: Mapping[str, Any]
) -> Scores:
    if not rows:
        raise InputError("there are no rows to score: give at least one")
    truth = [task.truth(row) for row in rows]
    if task.SCORES == "labels":
        names = list(about["labels"])
        places = [names.index(each) for each in truth]
        return _plain(score_labels(places, [int(each) for each in said], len(names)))
    if task.SCORES == "choices":
        most = max(len(row["choices"]) for row in rows)
        return {
            "accuracy": _plain(score_labels(truth, [int(each) for each in said], most))["accuracy"]
        }
    if task.SCORES == "numbers":
        return _plain(score_numbers(truth, said))
    if task.SCORES == "texts":
        return _plain(score_texts(truth, said))
    return {}


def _plain(figures: Sequence[ScoreWithCI]) -> Scores:
    found = {}
    for figure in figures:
        plain = figure.to_dict()
        found[str(plain.pop("name"))] = plain
    return found
