"""The columns a fine-tuning task reads: which of a table's they are, and what they may hold.

Knows rows as plain dicts, as `data/table.py` reads them; neither models nor tokenizers.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InputError

Row = dict[str, Any]


class BadValue(Exception):
    """A value that a column cannot hold; the text says why."""


@dataclass(frozen=True)
class Column:
    """A column of a task."""

    names: tuple[str, ...]
    """What it may be called in a table, the usual name first."""
    read: Callable[[Any], Any]
    """A value as the task uses it. Raises BadValue."""
    also: tuple[str, ...] = ()
    """Names that say too little to tell the task by them."""
    answer: bool = False
    """Whether it is what the model should find, so that it may be missing when predicting."""
    joins: str = ""
    """The column whose text it becomes a part of, on lines of its own; it may then be missing or
    empty."""
    before: bool = False
    """Whether it stands before that text, not after it."""
    series: bool = False
    """Whether it may be spread over several columns, as choice1, choice2 ... or A, B ..., which are
    written as one name: `A+B`."""


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise BadValue(f"holds {_kind(value)}, not a text")
    if not value.strip():
        raise BadValue("is empty")
    return value


def label(value: Any) -> str:
    """The name of a class; a whole number is its own name."""
    if isinstance(value, bool | int):
        return str(value)
    return text(value).strip()


def number(value: Any) -> float:
    """A finite number."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        shown = repr(value) if isinstance(value, str | float) else _kind(value)
        raise BadValue(f"holds {shown[:40]}, not a number")
    return found


def texts(value: Any) -> list[str]:
    """Two texts or more, to choose among; also as JSON in a text."""
    value = parse_json_list(value)
    if not isinstance(value, list) or len(value) < 2:
        raise BadValue("needs a list of two texts or more")
    return [text(each) for each in value]


def parse_json_list(value: Any) -> Any:
    """What a text holds that is a JSON list, as lists stand in the cells of a .csv file."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def match_columns(
    columns: Mapping[str, Column],
    found: Iterable[str],
    given: Mapping[str, str] | None = None,
    named: bool = True,
) -> dict[str, str] | None:
    """Which column of a table is which of the task's; None where one is missing. A name in other
    letters (`Gold Label`) counts where the table has none of the usual ones as they are written.

    Args:
        columns: of the task, by the name it uses.
        found: the columns of the table.
        given: names a person chose, which win.
        named: whether the task is known already.
    """
    have: list[str] = list(found)
    chosen: dict[str, str] = {}
    for own, column in columns.items():
        asked = (given or {}).get(own)
        usual = (*column.names, *column.also) if named else column.names
        if asked:
            match = asked if has_column(asked, have) else None
        else:
            match = _among(usual, have) or (_series(have) if column.series else None)
        if match is not None and not (column.joins and not asked and match in chosen.values()):
            chosen[own] = match
        elif asked or not column.joins:
            return None
    return chosen


def has_column(name: str, found: Sequence[str]) -> bool:
    """Whether a table has this column, or all of a series."""
    return name in found or all(part in found for part in name.split("+"))


def _among(names: Sequence[str], have: Sequence[str]) -> str | None:
    """The first of some names that a table has, as the table writes it."""
    alike = {_plain(name): name for name in reversed(have)}
    exactly = (name for name in names if name in have)
    loosely = (alike[_plain(name)] for name in names if _plain(name) in alike)
    return next(exactly, None) or next(loosely, None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


_PART = re.compile(r"(choice|option|ending|answer|sol)[ _]?(\d{1,2}|[a-h])|[a-h]", re.I)


def _series(have: Sequence[str]) -> str | None:
    """Columns with a text each, in their order, as one name: `choice1+choice2`, `A+B+C`."""
    found: dict[str, list[str]] = {}
    for name in have:
        if part := _PART.fullmatch(name):
            found.setdefault((part[1] or "").lower(), []).append(name)
    most = max(found.values(), key=len, default=[])
    return "+".join(sorted(most, key=lambda name: (len(name), name))) if len(most) > 1 else None


def missing_columns(
    task: str, columns: Mapping[str, Column], found: Sequence[str], given: Mapping[str, str]
) -> str:
    """The message for a table that lacks columns of a task: what it needs, and what there is."""
    needs = " and ".join(
        given[own] if own in given else " or ".join(column.names[:3])
        for own, column in columns.items()
        if own in given or not column.joins
    )
    have = ", ".join(found[:30]) or "none"
    return f"the task {task} needs the columns {needs}; found are {have}: name them with --columns"


def read_row(columns: Mapping[str, Column], chosen: Mapping[str, str], row: Row) -> Row:
    """A row as the task uses it.

    Raises:
        BadValue: names the column and what is wrong with it.
    """
    made: Row = {}
    for own, name in chosen.items():
        column = columns[own]
        value = row.get(name)
        if column.joins and (value is None or value == ""):
            continue
        if column.series and name not in row and "+" in name:
            value = _cells([row.get(part) for part in name.split("+")])
        elif name not in row:
            raise BadValue(f"has no column {name!r}")
        try:
            read = column.read(value)
        except BadValue as error:
            raise BadValue(f"{name!r} {error}") from None
        if column.joins:
            pieces = [read, made[column.joins]] if column.before else [made[column.joins], read]
            own, read = column.joins, "\n".join(pieces)
        made[own] = read
    return made


def _cells(values: Sequence[Any]) -> list[Any]:
    """The cells of a series without the empty ones at its end: rows may have fewer."""
    kept = list(values)
    while kept and (kept[-1] is None or kept[-1] == ""):
        kept.pop()
    return kept


def parse_columns(words: str, columns: Mapping[str, Column]) -> dict[str, str]:
    """`text=review,label=stars` as a dict from the task's names to the table's.

    Raises:
        InputError: no such column of the task, or no pair of names.
    """
    found = {}
    for part in filter(None, (each.strip() for each in words.split(","))):
        own, equals, name = (each.strip() for each in part.partition("="))
        if not equals or own not in columns or not name:
            raise InputError(
                f"--columns {words!r}: write {next(iter(columns))}=NAME, ... with "
                f"{', '.join(columns)}"
            )
        found[own] = name
    return found


def _kind(value: Any) -> str:
    kinds = {"NoneType": "nothing", "dict": "an object", "list": "a list", "bool": "true or false"}
    name = type(value).__name__
    return kinds.get(name, f"a {'number' if name in ('int', 'float') else name}")
