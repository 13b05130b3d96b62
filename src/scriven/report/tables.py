"""The tables of the report: scores, confusion matrix, task, settings with their reasons, data,
environment and notes.

Every value comes from scriven.json, may be of another type and is cut to a bearable length.
"""

import json
from collections.abc import Iterator
from typing import Any

from ..format import ABSENT, duration, heading, integer, percent, plural
from ..runs.finetune_results import finetune_rows, score_table, signatures
from ..settings import Settings
from .run_log import RunLog, checked_metadata, finite

LONGEST = 400  # characters of a value in a table
LABEL_LENGTH = 40  # characters of a label that are shown
SOURCES = 12
NOTES = 60

# Fractions from which on a cell of the confusion matrix is one shade darker.
SHADES = (0.05, 0.2, 0.4, 0.65, 0.85)

# (name, values), as a description list shows them.
Pairs = list[tuple[str, list[str]]]


def scores(run: RunLog) -> tuple[str, list[str], list[list[str]], list[str]]:
    """Every score with its interval, beside baselines and control.

    Returns:
        The caption, the heads, the rows (none while there are no scores), and notes on them.
    """
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
    return f"On {held_out}; a difference within the interval shows nothing", heads, rows, notes


def confusion(run: RunLog) -> tuple[Any, ...] | None:
    """Which labels a model takes for which; None where there is no confusion matrix.

    Returns:
        A sentence on the most frequent mistake, the labels, and a row for each true label: the
        label, (count, shade, tooltip) by predicted label, and the recall. The shade is a fraction
        of the true label, so that rare labels show as well as common ones.
    """
    labels, matrix = run.get("finetune", "labels"), run.get("results", "confusion")
    # 1. as many rows and columns as labels, all of them counts
    if not isinstance(matrix, list) or not isinstance(labels, list) or len(matrix) != len(labels):
        return None
    counts: list[list[int]] = []
    for row in matrix:
        numbers = [finite(each) for each in row] if isinstance(row, list) else []
        known = [int(each) for each in numbers if each is not None and each >= 0]
        if not len(known) == len(numbers) == len(labels):
            return None
        counts.append(known)
    if not counts:
        return None
    # 2. the cells
    names = [str(each)[:LABEL_LENGTH] for each in labels]
    rows, mistakes = [], []
    for place, row in enumerate(counts):
        total, cells = sum(row), []
        for count, predicted in zip(row, names, strict=True):
            # a label without rows has no fraction
            shade = sum(count / total >= least for least in SHADES) if total else 0
            title = f"{integer(count)} of {integer(total)} {names[place]} predicted as {predicted}"
            cells.append((count, shade, title))
        mistakes += [(n, place, other) for other, n in enumerate(row) if place != other]
        rows.append((names[place], cells, percent(row[place] / total, 0) if total else ""))
    # 3. the most frequent mistake, in words
    count, place, other = max(mistakes, key=lambda each: each[0], default=(0, 0, 0))
    sentence = "No mistakes on these rows."
    if count:
        total = sum(each for each, _, _ in mistakes)
        sentence = (
            f"The most frequent mistake, {integer(count)} of {integer(total)}: {names[place]} "
            f"predicted as {names[other]}."
        )
    return sentence, names, rows


def task_facts(run: RunLog) -> Pairs:
    """The task with its base model, columns and labels; a value of another type is left out."""
    settings, finetune = run.get("settings", "finetune"), run.get("finetune")
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
        (heading(name), [value[:LONGEST] for value in values])
        for name, values in finetune_rows(metadata)
    ]


def settings_table(run: RunLog) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Every resolved setting as (name, value, reason or origin): those chosen for a reason, and the
    others."""
    reasons = run.get("reasons")
    reasons = reasons if isinstance(reasons, dict) else {}
    values = dict(_settings(run))
    # a reason may stand alone, for a decision that is no setting
    values |= {key: None for key in reasons if key not in values}
    defaults: dict[str, object] = {
        f"{section}.{name}": default
        for section, group in vars(Settings()).items()
        for name, default in vars(group).items()
    }
    chosen: list[tuple[str, str, str]] = []
    others: list[tuple[str, str, str]] = []
    for name, value in values.items():
        reason = reasons.get(name)
        # what was set tells a reader more than what was left alone
        origin = ""
        if name in defaults:
            origin = "default" if value == defaults[name] else "set for this run"
        row = (name[:LONGEST], _value(value)[:LONGEST], str(reason or origin)[:LONGEST])
        (chosen if reason else others).append(row)
    return chosen, others


def _settings(run: RunLog) -> Iterator[tuple[str, object]]:
    for name in ("architecture", "task"):
        if run.get(name) is not None:
            yield name, run.get(name)
    groups = run.get("settings")
    # the model's section first, as it says most
    for group in ({"model": run.get("model")}, groups if isinstance(groups, dict) else {}):
        for name, value in group.items():
            if isinstance(value, dict):
                yield from ((f"{name}.{key}", each) for key, each in value.items())
            elif name != "model" or value is not None:
                yield name, value


def data_rows(run: RunLog) -> Pairs:
    """Sources, sizes, split, tokenizer and the fingerprint."""
    sources = run.get("data", "sources")
    listed = [str(each) for each in sources] if isinstance(sources, list) else []
    more = f" and {len(listed) - SOURCES:,} more" if len(listed) > SOURCES else ""
    rows: list[tuple[str, str]] = [("Sources", ", ".join(listed[:SOURCES]) + more)]
    names = (
        "characters", "documents", "rows", "validation_rows",
        "train_tokens", "validation_tokens", "validation_bytes",
    )  # fmt: skip
    rows += [
        (heading(name), integer(number))
        for name in names
        if (number := run.number("data", name)) is not None
    ]
    train = run.number("data", "train_tokens")
    held_out = run.number("data", "validation_tokens")
    if train is not None and held_out is not None and train + held_out > 0:
        # of the tokens: the split itself is by characters or documents
        fraction = 100 * held_out / (train + held_out)
        rows.append(("Held out", f"{fraction:.1f} % of the tokens, never trained on"))
    kind, size = run.text("tokenizer", "kind"), run.number("tokenizer", "vocab_size")
    if kind:
        rows.append(("Tokenizer", kind if size is None else f"{kind}, {integer(size)} tokens"))
    rows.append(("Fingerprint", run.text("data", "fingerprint")))
    return _pairs(rows)


def environment_rows(run: RunLog) -> Pairs:
    """The machine and the versions."""
    rows = [("Scriven", run.text("scriven"))]
    rows += [(heading(name), value) for name, value in _flat(run.get("environment") or {})]
    return _pairs(rows)


def note_rows(run: RunLog) -> list[tuple[str, str]]:
    """(when, what happened); empty when nothing did."""
    rows = []
    if len(run.notes) > NOTES:
        # the latest notes are shown, so the earlier ones are mentioned above them
        rows.append(("", f"metrics.jsonl has {plural(len(run.notes) - NOTES, 'earlier note')}"))
    for each in run.get("extensions") or []:
        text = f"trained longer from here; the training before ended at step {each['steps']:,}"
        if loss := finite((each["results"] or {}).get("val_loss")):
            text += f" with a validation loss of {loss:.3f}"
        if (given_up := each["steps"] - each["from_step"]) > 0:
            seconds = duration(each["seconds"] - each["from_seconds"])
            text += f"; its last {given_up:,} steps ({seconds}) were given up"
        rows.append((f"step {each['from_step']:,}", text))
    for note in run.notes[-NOTES:]:
        time = "" if note.seconds is None else f", {duration(note.seconds)}"
        rows.append((f"step {note.step:,}{time}", note.text[:LONGEST]))
    if run.unreadable:
        lines = plural(run.unreadable, "unreadable line", "unreadable lines")
        rows.append(("log", f"left out: {lines} of metrics.jsonl"))
    return rows


def _pairs(rows: list[tuple[str, str]]) -> Pairs:
    return [(name, [value[:LONGEST]]) for name, value in rows if value]


def _flat(values: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """{"cpu": {"cores": 2}} -> ("cpu cores", "2")."""
    if not isinstance(values, dict):
        yield before or "value", _value(values)
        return
    for key, value in values.items():
        yield from _flat(value, f"{before} {key}".strip())


def _value(value: object) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(_value(each) for each in value)
    return json.dumps(value, ensure_ascii=False)
