"""The settings with their reasons, the data, the environment and the notes as rows of tables."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import settings as sections
from ..config import describe
from ..format import ABSENT, duration, integer
from .run_log import RunLog

LONGEST = 400  # characters of a value in a table
SOURCES = 12
NOTES = 60

# (name, values), as a description list shows them.
Pairs = list[tuple[str, list[str]]]

SECTIONS = {
    "data": sections.DataSettings,
    "tokenizer": sections.TokenizerSettings,
    "optim": sections.OptimSettings,
    "train": sections.TrainSettings,
    "runtime": sections.RuntimeSettings,
}


@dataclass(frozen=True)
class SettingsTable:
    """Rows (name, value, reason or origin): those chosen for a reason, and the others."""

    chosen: list[tuple[str, str, str]]
    others: list[tuple[str, str, str]]


def settings_table(run: RunLog) -> SettingsTable:
    """Every resolved setting."""
    reasons = run.get("reasons")
    reasons = reasons if isinstance(reasons, dict) else {}
    values = dict(_settings(run))
    # a reason may stand alone, for a decision that is no setting
    values |= {key: None for key in reasons if key not in values}
    # what was set tells a reader more than what was left alone
    defaults = dict(_defaults())
    table = SettingsTable([], [])
    for name, value in values.items():
        reason = reasons.get(name)
        origin = ""
        if name in defaults:
            origin = "default" if value == defaults[name] else "set for this run"
        last = str(reason) if reason else origin
        row = (name[:LONGEST], _value(value)[:LONGEST], last[:LONGEST])
        (table.chosen if reason else table.others).append(row)
    return table


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


def _defaults() -> Iterator[tuple[str, object]]:
    for section, kind in SECTIONS.items():
        assert dataclasses.is_dataclass(kind)
        yield from ((f"{section}.{name}", default) for name, default, _ in describe(kind))


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
        (_title(name), integer(number))
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
    return pairs(rows)


def environment_rows(run: RunLog) -> Pairs:
    """The machine and the versions."""
    rows = [("Scriven", run.text("scriven"))]
    rows += [(_title(name), value) for name, value in _flat(run.get("environment") or {})]
    return pairs(rows)


def note_rows(run: RunLog) -> list[tuple[str, str]]:
    """(when, what happened); empty when nothing did."""
    rows = [(_when(each.step, each.seconds), each.text[:LONGEST]) for each in run.notes[-NOTES:]]
    if len(run.notes) > NOTES:
        # the latest notes are shown, so the earlier ones are mentioned above them
        rows.insert(0, ("", f"{len(run.notes) - NOTES:,} earlier notes are in metrics.jsonl"))
    if run.unreadable:
        left_out = f"{run.unreadable:,} unreadable line(s) of metrics.jsonl were left out"
        rows.append(("log", left_out))
    return rows


def pairs(rows: list[tuple[str, str]]) -> Pairs:
    """The rows that have a value, with values of a bearable length."""
    return [(name, [value[:LONGEST]]) for name, value in rows if value]


def _flat(values: Any, before: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(values, dict):
        yield before or "value", _value(values)
        return
    for key, value in values.items():
        name = f"{before} {key}".strip()
        if isinstance(value, dict):
            yield from _flat(value, name)
        else:
            yield name, _value(value)


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


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _when(step: int, seconds: float | None) -> str:
    return f"step {step:,}" + ("" if seconds is None else f", {duration(seconds)}")
