"""What the report of a fine-tuned run shows beside that of any other: its task, its scores beside
trivial baselines and the control, and which labels it takes for which.

Reads scriven.json with distrust; knows no model.
"""

from dataclasses import dataclass
from typing import Any

from .. import registry
from ..format import ABSENT, compact, decimal, duration, integer, percent
from ..runs.finetune_results import (
    finetune_rows,
    format_score,
    reference_scores,
    score_name,
    score_table,
    signatures,
)
from .run_log import KeyMetrics, RunLog, finite
from .tables import LONGEST, Pairs

CONTROL = "without pre-training"
LOSS_UNITS = {
    "label": "nats per example",
    "score": "squared spreads of the scores",
    "answer token": "nats per token of the answers",
}

# What the loss and the accuracy of a task are about, by its loss unit.
ACCURACIES = {
    "label": "of the rows right",
    "score": "within half a spread",
    "answer token": "of the answers' tokens right",
}

# Fractions from which on a cell of the confusion matrix is one shade darker.
SHADES = (0.05, 0.2, 0.4, 0.65, 0.85)
LABEL_LENGTH = 40  # characters of a label that are shown


@dataclass(frozen=True)
class MainScore:
    """The main score of a run, and what it is compared with."""

    name: str
    """Of the score, for a person."""
    key: str
    value: float | None
    low: float | None
    high: float | None
    references: dict[str, float]
    """What baselines and the control reach, by name."""

    def show(self, value: float) -> str:
        """A value of this score."""
        return format_score(self.key, value)

    @property
    def title(self) -> str:
        """The name as the beginning of a line."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def interval(self) -> str:
        """`0.81 to 0.87`; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.show(self.low)} to {self.show(self.high)}"

    @property
    def text(self) -> str:
        """The value with its interval."""
        if self.value is None:
            return ABSENT
        return self.show(self.value) + (f" ({self.interval})" if self.interval else "")

    def best_baseline(self) -> tuple[str, float] | None:
        """The strongest baseline by name."""
        baselines = {name: each for name, each in self.references.items() if name != CONTROL}
        return max(baselines.items(), key=lambda pair: pair[1], default=None)


def is_finetuned(run: RunLog) -> bool:
    """Whether the run is a fine-tuning."""
    return isinstance(run.get("finetune"), dict)


def learns_text(run: RunLog) -> bool:
    """Whether the training loss includes a language modelling loss, which decoders learn beside
    their labels."""
    # written answers have no label loss to mix with
    labelled = run.text("measure") in ("label", "score")
    weight = run.number("finetune", "lm_loss_weight")
    architecture = run.text("architecture")
    task = registry.class_attribute("scriven.models", architecture, "Model", "pretraining_task")
    return labelled and bool(weight) and task in (None, "language")


def main_score(run: RunLog, key: str | None = None) -> MainScore | None:
    """The main score, or the one of this key; None while there is none, or where it is damaged."""
    metadata = checked_metadata(run)
    scores = metadata["results"].get("val_scores") or {}
    references = reference_scores(metadata)
    known = scores or next(iter(references.values()), {})
    key = key or metadata["results"].get("main_score")
    key = key if key in known else next(iter(known), None)
    if key is None:
        return None
    # a run that is not finished may have references and no score of its own
    own = scores.get(key, {})
    return MainScore(
        name=score_name(key),
        key=key,
        value=own.get("value"),
        low=own.get("low"),
        high=own.get("high"),
        references={name: each[key]["value"] for name, each in references.items() if key in each},
    )


def checked_metadata(run: RunLog) -> dict[str, Any]:
    """The metadata with only such scores as are numbers, so that no table has to check again."""
    results = run.get("results")
    results = dict(results) if isinstance(results, dict) else {}
    results["val_scores"] = _checked_scores(results.get("val_scores"))
    baseline = results.get("baseline") or run.get("baseline")
    results["baseline"] = {
        str(name): {**each, "scores": _checked_scores(each.get("scores"))}
        for name, each in (baseline.items() if isinstance(baseline, dict) else ())
        if isinstance(each, dict)
    }
    control = results.get("control")
    if isinstance(control, dict):
        scores = _checked_scores(control.get("val_scores"))
        results["control"] = {**control, "val_scores": scores}
    return {**run.metadata, "results": results}


def _checked_scores(scores: Any) -> dict[str, dict[str, Any]]:
    checked: dict[str, dict[str, Any]] = {}
    for name, each in scores.items() if isinstance(scores, dict) else ():
        if isinstance(each, dict) and finite(each.get("value")) is not None:
            numbers = {key: finite(each.get(key)) for key in ("value", "low", "high")}
            signature = each.get("signature")
            checked[str(name)] = {**numbers, "signature": str(signature) if signature else None}
    return checked


def tiles(run: RunLog, metrics: KeyMetrics, score: MainScore | None) -> list[tuple[str, str, str]]:
    """(name, value, unit) of the key figures."""
    unit = LOSS_UNITS.get(metrics.loss_unit, f"nats per {metrics.loss_unit}")
    first: list[tuple[str, str, str]] = []
    if score is not None and score.value is not None:
        first = [_tile(score), *_second_tile(run, metrics, score)]
    return [
        *first,
        ("Validation loss", decimal(metrics.loss), unit),
        ("Parameters", compact(metrics.parameters), "weights learned"),
        ("Rows", integer(run.number("data", "rows")), "trained on"),
        ("Held-out rows", integer(run.number("data", "validation_rows")), "never trained on"),
        ("Epochs", decimal(metrics.epochs, 1), "of the rows"),
        ("Tokens", compact(metrics.tokens), "read in training"),
        ("Time", duration(metrics.seconds), "wall clock"),
        ("Speed", compact(metrics.tokens_per_second), "tokens per second"),
    ]


def _tile(score: MainScore) -> tuple[str, str, str]:
    assert score.value is not None
    return score.title, score.show(score.value), score.interval


def _second_tile(run: RunLog, metrics: KeyMetrics, score: MainScore) -> list[tuple[str, str, str]]:
    """Beside the main score: another score, else the token accuracy, else a baseline."""
    # 1. another score, such as macro F1 beside accuracy
    others = [key for key in checked_metadata(run)["results"]["val_scores"] if key != score.key]
    if others:
        other = main_score(run, others[0])
        return [] if other is None else [_tile(other)]
    # 2. written answers: the accuracy of their tokens
    if metrics.loss_unit == "answer token":
        return [("Accuracy", percent(metrics.accuracy), ACCURACIES[metrics.loss_unit])]
    # 3. otherwise the first baseline
    references = score.references.items()
    return [(name, score.show(value), "for comparison") for name, value in references][:1]


@dataclass(frozen=True)
class ScoreTable:
    """Every score with its interval, beside baselines and control; and notes on them."""

    caption: str
    heads: list[str]
    rows: list[list[str]]
    notes: list[str]


def scores(run: RunLog) -> ScoreTable:
    """The table of scores; without rows while there are none."""
    metadata = checked_metadata(run)
    heads, rows = score_table(metadata)
    count = finite(metadata["results"].get("val_rows"))
    held_out = "held-out rows" if count is None else f"{integer(count)} held-out rows"
    notes = [
        f"{name.replace('_', ' ')}: {each['note']}"
        for name, each in metadata["results"]["baseline"].items()
        if each.get("note")
    ]
    notes = [text[:LONGEST] for text in [*notes, *signatures(metadata)]]
    caption = f"On {held_out}; a difference within the interval shows nothing"
    return ScoreTable(caption, heads, rows, notes)


def task_facts(run: RunLog) -> Pairs:
    """The task with its base model, columns and labels, each of the type it should have."""
    settings, finetune = run.get("settings", "finetune"), run.get("finetune")
    # metadata may be damaged or from another version: a value of another type is left out
    types = {"base": dict, "columns": dict, "labels": list}
    facts = {
        name: finetune[name] for name, kind in types.items() if isinstance(finetune.get(name), kind)
    }
    metadata = {
        "task": run.text("task"),
        "settings": {"finetune": settings if isinstance(settings, dict) else {}},
        "finetune": {**facts, **{name: finite(finetune.get(name)) for name in ("low", "high")}},
    }
    return [
        (name[:1].upper() + name[1:], [value[:LONGEST] for value in values])
        for name, values in finetune_rows(metadata)
    ]


@dataclass(frozen=True)
class ConfusionCell:
    """A count, its shade and its tooltip."""

    count: int
    level: int
    title: str


@dataclass(frozen=True)
class ConfusionRow:
    """The rows of one true label by what the model predicts."""

    label: str
    cells: list[ConfusionCell]
    recall: str


@dataclass(frozen=True)
class Confusion:
    """Which labels a model takes for which.

    A shade is the fraction of the true label, so rare labels show as well as common ones; the
    numbers stand in the cells, so nothing depends on seeing the shade.
    """

    labels: list[str]
    rows: list[ConfusionRow]
    sentence: str
    """On the most frequent mistake."""


def confusion(run: RunLog) -> Confusion | None:
    """The confusion matrix; None where there is none."""
    labels = run.get("finetune", "labels")
    counts = _counts(run.get("results", "confusion"), labels)
    if not counts:
        return None
    names = [str(each)[:LABEL_LENGTH] for each in labels]
    rows = []
    for place, row in enumerate(counts):
        total = sum(row)
        cells = [
            _cell(count, total, names[place], predicted)
            for count, predicted in zip(row, names, strict=True)
        ]
        recall = percent(row[place] / total, 0) if total else ""
        rows.append(ConfusionRow(names[place], cells, recall))
    return Confusion(names, rows, _mistake(counts, names))


def _counts(matrix: object, labels: object) -> list[list[int]]:
    """The counts, where they are as many as there are labels; else none."""
    if not isinstance(matrix, list) or not isinstance(labels, list) or len(matrix) != len(labels):
        return []
    counts = []
    for row in matrix:
        if not isinstance(row, list) or len(row) != len(labels):
            return []
        numbers = [finite(each) for each in row]
        if any(each is None or each < 0 for each in numbers):
            return []
        counts.append([int(each or 0) for each in numbers])
    return counts


def _cell(count: int, total: int, label: str, predicted: str) -> ConfusionCell:
    # a label without rows has no fraction
    fraction = count / total if total else 0.0
    level = sum(fraction >= least for least in SHADES)
    title = f"{integer(count)} of {integer(total)} that are {label} called {predicted}"
    return ConfusionCell(count, level, title)


def _mistake(counts: list[list[int]], names: list[str]) -> str:
    wrong = [
        (count, place, other)
        for place, row in enumerate(counts)
        for other, count in enumerate(row)
        if place != other
    ]
    count, place, other = max(wrong, key=lambda each: each[0], default=(0, 0, 0))
    if not count:
        return "It has made no mistake on these rows."
    total = sum(each for each, _, _ in wrong)
    return (
        f"Its commonest mistake, {integer(count)} of {integer(total)}: what is {names[place]} it "
        f"calls {names[other]}."
    )
