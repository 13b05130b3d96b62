"""The columns a fine-tuning task reads: which of a table's they are, and what they may hold.

Knows rows as plain dicts, as `data/table.py` reads them; neither models nor tokenizers.
"""

import math
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
    """Two texts or more, to choose among."""
    if not isinstance(value, list) or len(value) < 2:
        raise BadValue("needs a list of two texts or more")
    return [text(each) for each in value]


def resolve(
    columns: Mapping[str, Column],
    found: Iterable[str],
    given: Mapping[str, str] | None = None,
    answers: bool = True,
    named: bool = True,
) -> dict[str, str] | None:
    """Which column of a table is which of the task's; None where one is missing.

    Args:
        columns: of the task, by the name it uses.
        found: the columns of the table.
        given: names a person chose, which win.
        answers: whether those that the model should find must be there.
        named: whether the task is known already.
    """
    have, chosen = list(found), {}
    for own, column in columns.items():
        asked = (given or {}).get(own)
        usual = (*column.names, *column.also) if named else column.names
        match = next((name for name in ((asked,) if asked else usual) if name in have), None)
        if match is not None:
            chosen[own] = match
        elif answers or not column.answer:
            return None
    return chosen


def missing(
    task: str, columns: Mapping[str, Column], found: Sequence[str], given: Mapping[str, str]
) -> str:
    """The message for a table that lacks columns of a task: what it needs, and what there is."""
    needs = " and ".join(
        given[own] if own in given else " or ".join(column.names[:3])
        for own, column in columns.items()
    )
    have = ", ".join(found[:30]) or "none"
    return f"the task {task} needs the columns {needs}; found are {have}: name them with --columns"


def values(columns: Mapping[str, Column], chosen: Mapping[str, str], row: Row) -> Row:
    """A row as the task uses it.

    Raises:
        BadValue: names the column and what is wrong with it.
    """
    made: Row = {}
    for own, name in chosen.items():
        if name not in row:
            raise BadValue(f"has no column {name!r}")
        try:
            made[own] = columns[own].read(row[name])
        except BadValue as error:
            raise BadValue(f"{name!r} {error}") from None
    return made


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
