"""What the report of a fine-tuned run shows beside that of any other: its task, its scores beside
trivial baselines and the control, and how its loss is to be read.

Reads scriven.json with distrust; knows no model.
"""

from dataclasses import dataclass
from typing import Any

from ..format import compact, decimal, duration, integer, percent
from ..runs.finetune_results import (
    finetune_rows,
    format_score,
    reference_scores,
    score_name,
    score_table,
    signatures,
)
from .figures import Figures
from .history import History, finite
from .markup import Markup, element, join

LONGEST = 400  # characters of a value
LOSSES = {
    "label": "nats per example",
    "score": "squared spreads of the scores",
    "answer token": "nats per token of the answers",
}
RIGHT = {
    "label": "of the rows right",
    "score": "within half a spread",
    "answer token": "of the answers' tokens right",
}
"""What the loss and the accuracy of a task are about, by its measure."""
BOTH_SIDES = ("roberta", "transformer")
"""Architectures whose tasks learn no text beside their labels."""


@dataclass(frozen=True)
class Standing:
    """The main score of a run, and what it stands beside."""

    name: str
    """Of the score, for a person."""
    key: str
    value: float | None
    low: float | None
    high: float | None
    others: dict[str, float]
    """What baselines and the control reach, by name."""

    def show(self, value: float) -> str:
        """A value of this score."""
        return format_score(self.key, value)

    @property
    def text(self) -> str:
        """The value with its interval."""
        if self.value is None:
            return "–"
        if self.low is None or self.high is None:
            return self.show(self.value)
        return f"{self.show(self.value)} ({self.show(self.low)} to {self.show(self.high)})"


CONTROL = "without pre-training"


def is_finetuned(history: History) -> bool:
    """Whether the run is a fine-tuning."""
    return isinstance(history.pick("finetune"), dict)


def standing(history: History, asked: str | None = None) -> Standing | None:
    """The main score, or the one asked for; None while there is none, or where it is damaged."""
    record = plain(history)
    found = record["results"].get("val_scores") or {}
    others = reference_scores(record)
    known = found or next(iter(others.values()), {})
    key = asked or record["results"].get("main_score")
    key = key if key in known else next(iter(known), None)
    if key is None:
        return None
    mine = found.get(key, {})
    beside = {name: scores[key]["value"] for name, scores in others.items() if key in scores}
    return Standing(
        name=score_name(key),
        key=key,
        value=mine.get("value"),
        low=mine.get("low"),
        high=mine.get("high"),
        others=beside,
    )


def tiles(history: History, figures: Figures, found: Standing | None) -> list[tuple[str, str, str]]:
    """(name, value, unit) of the key figures."""
    unit = LOSSES.get(figures.unit, f"nats per {figures.unit}")
    first = [] if found is None or found.value is None else [_tile(found)]
    if first:
        first += _second(history, figures, found)
    return [
        *first,
        ("Validation loss", decimal(figures.loss), unit),
        ("Parameters", compact(figures.parameters), "weights learned"),
        ("Rows", integer(history.figure("data", "rows")), "taught with"),
        ("Held-out rows", integer(history.figure("data", "validation_rows")), "never taught with"),
        ("Passes", decimal(figures.passes, 1), "through the rows"),
        ("Tokens", compact(figures.tokens), "read in training"),
        ("Time", duration(figures.seconds), "wall clock"),
        ("Speed", compact(figures.tokens_per_second), "tokens per second"),
    ]


def _tile(found: Standing) -> tuple[str, str, str]:
    assert found.value is not None
    name = found.name[:1].upper() + found.name[1:]
    return name, found.show(found.value), found.text.partition("(")[2].rstrip(")")


def _second(
    history: History, figures: Figures, found: Standing | None
) -> list[tuple[str, str, str]]:
    """What stands beside the main score: another one, else a share of tokens, else a baseline."""
    assert found is not None
    others = [name for name in plain(history)["results"]["val_scores"] if name != found.key]
    if others:
        other = standing(history, others[0])
        return [] if other is None else [_tile(other)]
    if figures.unit == "answer token":
        return [("Accuracy", percent(figures.accuracy), RIGHT[figures.unit])]
    return [(name, found.show(value), "for comparison") for name, value in found.others.items()][:1]


def plain(history: History) -> dict[str, Any]:
    """The record with only such scores as are numbers, so that no table has to ask again."""
    results = history.pick("results")
    results = dict(results) if isinstance(results, dict) else {}
    results["val_scores"] = _scores(results.get("val_scores"))
    baseline = results.get("baseline") or history.pick("baseline")
    results["baseline"] = {
        str(name): {**each, "scores": _scores(each.get("scores"))}
        for name, each in (baseline.items() if isinstance(baseline, dict) else ())
        if isinstance(each, dict)
    }
    control = results.get("control")
    if isinstance(control, dict):
        results["control"] = {**control, "val_scores": _scores(control.get("val_scores"))}
    return {**history.record, "results": results}


def _scores(found: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(found, dict):
        return {}
    kept = {}
    for name, each in found.items():
        if isinstance(each, dict) and finite(each.get("value")) is not None:
            ends = {end: finite(each.get(end)) for end in ("value", "low", "high")}
            signature = each.get("signature")
            kept[str(name)] = {**ends, "signature": str(signature) if signature else None}
    return kept


def scores(history: History) -> Markup:
    """Every score with its interval, beside baselines and control; and what baselines settled."""
    record = plain(history)
    heads, rows = score_table(record)
    if not rows:
        words = "Scores come at the end of the run, over the rows that are held out."
        return element("p", words)
    count = finite(record["results"].get("val_rows"))
    held = "held-out rows" if count is None else f"{integer(count)} held-out rows"
    caption = f"On {held}; a difference within the interval shows nothing"
    head = element(
        "tr",
        *(
            element("th", text, scope="col", class_="number" if n else None)
            for n, text in enumerate(heads)
        ),
    )
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", text or "–", class_="number") for text in row[1:]),
        )
        for row in rows
    ]
    table = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *body),
        class_="settings scores",
    )
    return join(element("div", table, class_="scroll"), _small(record))


def _small(record: dict[str, Any]) -> Markup:
    """What is said below the table."""
    notes = [
        f"{name.replace('_', ' ')}: {each['note']}"
        for name, each in record["results"]["baseline"].items()
        if each.get("note")
    ]
    notes += signatures(record)
    return join(*(element("p", text[:LONGEST], class_="aside") for text in notes))


def ladder(found: Standing) -> Markup:
    """The main score as bars: baselines, control, model."""
    rungs = [(name, value, "other") for name, value in found.others.items()]
    if found.value is not None:
        rungs.append(("this model", found.value, "model"))
    longest = max((value for _, value, _ in rungs), default=0.0)
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element(
                "td",
                element(
                    "svg",
                    element(
                        "rect", width=f"{100 * max(value, 0) / (longest or 1):.2f}%", height="100%"
                    ),
                    class_=f"bar {look}",
                    aria_hidden="true",
                ),
            ),
            element("td", found.show(value), class_="number"),
        )
        for name, value, look in rungs
    ]
    caption = f"{found.name} on the same held-out rows; longer is better"
    return element("table", element("caption", caption), element("tbody", *rows), class_="ladder")


def facts(history: History) -> Markup:
    """The task with its base model, columns and labels."""
    tune = history.pick("settings", "finetune")
    known = {"finetune": tune if isinstance(tune, dict) else {}}
    about = {"task": history.word("task"), "settings": known, "finetune": _facts(history)}
    rows = finetune_rows(about)
    pairs = [
        element(
            "div",
            element("dt", name[:1].upper() + name[1:]),
            element(
                "dd",
                *(
                    element("bdi", text) if n % 2 == 0 else text
                    for n, text in enumerate(_between(values))
                ),
            ),
        )
        for name, values in rows
    ]
    return element("dl", *pairs, class_="pairs")


def _between(values: list[str]) -> list[str]:
    """Values with commas between them."""
    found: list[str] = []
    for value in values:
        found += [", ", value[:LONGEST]]
    return found[1:]


def _facts(history: History) -> dict[str, Any]:
    """The fine-tuning's facts, each of the kind it should be, or left out."""
    tuned = history.pick("finetune")
    kinds = {"base": dict, "columns": dict, "labels": list}
    found = {name: tuned[name] for name, kind in kinds.items() if isinstance(tuned.get(name), kind)}
    ends = {name: finite(tuned.get(name)) for name in ("low", "high")}
    return {**found, **ends}


def learns_text(history: History) -> bool:
    """Whether the training loss holds that of the text beside that of the answers."""
    labelled = history.word("measure") in ("label", "score")
    weight = history.figure("finetune", "lm_loss_weight")
    return labelled and bool(weight) and history.word("architecture") not in BOTH_SIDES
