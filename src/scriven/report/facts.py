"""The settings with their reasons, the data, the environment, the command and the notes.

Knows which key of scriven.json belongs into which table; knows nothing of curves.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from .. import settings as dials
from ..config import describe
from ..format import duration, integer
from .history import History
from .markup import Markup, element, join

LONGEST = 400  # characters of a value in a table
SOURCES = 12
NOTES = 60

_SECTIONS = {
    "data": dials.DataSettings,
    "tokenizer": dials.TokenizerSettings,
    "optim": dials.OptimSettings,
    "train": dials.TrainSettings,
    "runtime": dials.RuntimeSettings,
}


def settings(history: History) -> Markup:
    """Every resolved setting; those with a reason of their own first, the others folded away."""
    reasons = history.pick("reasons")
    reasons = reasons if isinstance(reasons, dict) else {}
    chosen: list[Markup] = []
    others: list[Markup] = []
    values = dict(_settings(history))
    # A reason may stand alone, for a decision that is no setting.
    values |= {key: None for key in reasons if key not in values}
    defaults = dict(_defaults())
    for name, value in values.items():
        reason = reasons.get(name)
        row = _row(name, value, str(reason) if reason else _origin(name, value, defaults))
        (chosen if reason else others).append(row)
    parts = []
    if chosen:
        parts.append(_table(("Setting", "Value", "Why"), chosen))
    if others:
        words = f"{'All other' if chosen else 'All'} settings ({len(others)})"
        table = _table(("Setting", "Value", "Where from"), others)
        parts.append(element("details", element("summary", words), table, open=not chosen))
    return join(*parts) if parts else element("p", "No settings were recorded.")


def data(history: History) -> Markup:
    """Sources, sizes, split, tokenizer and the fingerprint."""
    sources = history.pick("data", "sources")
    listed = [str(each) for each in sources] if isinstance(sources, list) else []
    more = f" and {len(listed) - SOURCES:,} more" if len(listed) > SOURCES else ""
    rows: list[tuple[str, str]] = [("Sources", ", ".join(listed[:SOURCES]) + more)]
    names = (
        "characters", "documents", "rows", "validation_rows",
        "train_tokens", "validation_tokens", "validation_bytes",
    )  # fmt: skip
    for name in names:
        if (count := history.figure("data", name)) is not None:
            rows.append((_title(name), integer(count)))
    train, held = (
        history.figure("data", "train_tokens"),
        history.figure("data", "validation_tokens"),
    )
    if train is not None and held is not None and train + held > 0:
        share = 100 * held / (train + held)
        rows.append(("Held out", f"{share:.1f} % of the tokens, never trained on"))
    kind, size = history.word("tokenizer", "kind"), history.figure("tokenizer", "vocab_size")
    if kind:
        rows.append(("Tokenizer", kind if size is None else f"{kind}, {integer(size)} tokens"))
    if history.word("data", "fingerprint"):
        rows.append(("Fingerprint", history.word("data", "fingerprint")))
    return _pairs([(name, value) for name, value in rows if value])


def environment(history: History) -> Markup:
    """The machine and the versions."""
    rows = [("Scriven", history.word("scriven"))]
    rows += [(_title(name), value) for name, value in _flat(history.pick("environment") or {})]
    return _pairs([(name, value) for name, value in rows if value])


def command(history: History) -> Markup:
    """The exact command line."""
    text = history.word("command")
    if not text:
        return element("p", "No command line was recorded.")
    return element("pre", element("code", text[:4000]), class_="command")


def notes(history: History) -> Markup:
    """What happened on the way; empty markup when nothing did."""
    items = [
        element(
            "li",
            element("span", _when(each.step, each.seconds), class_="when"),
            element("span", each.text[:LONGEST]),
        )
        for each in history.notes[-NOTES:]
    ]
    if history.unreadable:
        words = f"{history.unreadable:,} unreadable line(s) of metrics.jsonl were left out"
        items.append(element("li", element("span", "log", class_="when"), element("span", words)))
    if len(history.notes) > NOTES:
        earlier = f"{len(history.notes) - NOTES:,} earlier notes are in metrics.jsonl"
        items.insert(0, element("li", element("span", "", class_="when"), element("span", earlier)))
    return element("ul", *items, class_="notes") if items else Markup("")


def _settings(history: History) -> Iterator[tuple[str, object]]:
    for name in ("architecture", "task"):
        if history.pick(name) is not None:
            yield name, history.pick(name)
    groups = history.pick("settings")
    for group in ({"model": history.pick("model")}, groups if isinstance(groups, dict) else {}):
        for name, value in group.items():
            if isinstance(value, dict):
                yield from ((f"{name}.{key}", each) for key, each in value.items())
            elif name != "model" or value is not None:
                yield name, value


def _defaults() -> Iterator[tuple[str, object]]:
    for section, kind in _SECTIONS.items():
        assert dataclasses.is_dataclass(kind)
        yield from ((f"{section}.{name}", default) for name, default, _ in describe(kind))


def _origin(name: str, value: object, defaults: dict[str, object]) -> str:
    if name not in defaults:
        return ""
    return "default" if value == defaults[name] else "set for this run"


def _row(name: str, value: object, reason: str) -> Markup:
    return element(
        "tr",
        element("th", element("code", name[:LONGEST]), scope="row"),
        element("td", _value(value)[:LONGEST]),
        element("td", reason[:LONGEST], class_="reason"),
    )


def _table(heads: tuple[str, ...], rows: list[Markup]) -> Markup:
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    table = element("table", element("thead", head), element("tbody", *rows), class_="settings")
    return element("div", table, class_="scroll")


def _pairs(rows: list[tuple[str, str]]) -> Markup:
    if not rows:
        return element("p", "Nothing was recorded.")
    pairs = [
        element("div", element("dt", name), element("dd", value[:LONGEST])) for name, value in rows
    ]
    return element("dl", *pairs, class_="pairs")


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
        return "–"
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
