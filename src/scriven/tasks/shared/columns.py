"""The columns that a fine-tuning task reads: how they are found in a table, and their values.

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


class NothingToLearn(Exception):
    """A sound row that says itself that nothing is to be learned from it; the text says how."""


@dataclass(frozen=True)
class Column:
    """A column of a task."""

    names: tuple[str, ...]  # its possible names in a table, the usual one first
    read: Callable[[Any], Any]  # converts a value to what the task uses. Raises BadValue.
    also: tuple[str, ...] = ()  # further names, too common to recognise the task by them
    answer: bool = False
    """Whether it holds what the model predicts, so that it may be missing in prediction."""
    joins: str = ""
    """The column whose text it is added to, on lines of its own; it may be missing or empty."""
    before: bool = False  # whether it is added before that text, not after it
    optional: bool = False  # whether a table, or a row of it, may lack it
    series: bool = False
    """Whether it may be spread over several columns, as choice1, choice2 ... or A, B ..., which are
    written as one name: `A+B`."""

    @property
    def may_be_missing(self) -> bool:
        """Whether the task does without it."""
        return self.optional or bool(self.joins)


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise BadValue(f"holds {_kind(value)}, not a text")
    if not value.strip():
        raise BadValue("is empty")
    return value


def label(value: Any) -> str:
    """The name of a class; a number is its own name."""
    if isinstance(value, list):
        raise BadValue("holds a list: several labels of a text are for --task multilabel")
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    return text(value).strip()


def is_numeral(value: Any) -> bool:
    """Whether a cell is a finite number, or the text of one."""
    try:
        number(value)
    except BadValue:
        return False
    return True


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
    return parse_json(value, "[")


def parse_json(value: Any, begins: str = "[{") -> Any:
    """What a text holds that is a JSON list or object; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in tuple(begins):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def match_columns(
    columns: Mapping[str, Column],
    table_columns: Iterable[str],
    given: Mapping[str, str] | None = None,
    named: bool = True,
) -> dict[str, str] | None:
    """The column of a table for each of a task's columns; None where one is missing.

    A name in other spelling (`Gold Label`) counts where the table has none of the usual names
    exactly.

    Args:
        given: names that the user chose, which take precedence.
        named: whether the task is known already.
    """
    available: list[str] = list(table_columns)
    chosen: dict[str, str] = {}
    for own_name, column in columns.items():
        requested = (given or {}).get(own_name)
        aliases = (*column.names, *column.also) if named else column.names
        if requested:
            match = requested if has_column(requested, available) else None
        else:
            match = _first_alias(aliases, available)
            match = match or (_series(available) if column.series else None)
        # an optional column never takes one that another has already
        is_taken = column.may_be_missing and not requested and match in chosen.values()
        if match is not None and not is_taken:
            chosen[own_name] = match
        elif requested or not column.may_be_missing:
            return None
    return chosen


def has_column(name: str | None, table_columns: Sequence[str]) -> bool:
    """Whether a table has this column, or all of a series."""
    if name is None:
        return False
    return name in table_columns or all(part in table_columns for part in name.split("+"))


def _first_alias(names: Sequence[str], available: Sequence[str]) -> str | None:
    """The first of some names that a table has, as the table spells it."""
    # of several spellings of one name the first in the table counts, so it is written last
    by_spelling = {_normalise(name): name for name in reversed(available)}
    exact = (name for name in names if name in available)
    loose = (by_spelling[key] for name in names if (key := _normalise(name)) in by_spelling)
    return next(exact, None) or next(loose, None)


def _normalise(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


_PART = re.compile(r"(choice|option|ending|answer|sol)[ _]?(\d{1,2}|[a-h])|[a-h]", re.I)


def _series(available: Sequence[str]) -> str | None:
    """Columns with a text each, in their order, as one name: `choice1+choice2`, `A+B+C`."""
    # columns of one stem, such as choice1 and choice2; letters alone have the stem ""
    series: dict[str, list[str]] = {}
    for name in available:
        if part := _PART.fullmatch(name):
            series.setdefault((part[1] or "").lower(), []).append(name)
    longest = max(series.values(), key=len, default=[])
    # by length first, so that choice10 comes after choice2
    return "+".join(sorted(longest, key=lambda name: (len(name), name))) if longest[1:] else None


def missing_columns(
    task: str, columns: Mapping[str, Column], available: Sequence[str], given: Mapping[str, str]
) -> str:
    """The message for a table that lacks columns of a task: what it needs, and what there is."""
    needs = " and ".join(
        given[name] if name in given else " or ".join(column.names[:3])
        for name, column in columns.items()
        if name in given or not column.may_be_missing
    )
    have = ", ".join(available[:30]) or "none"
    return f"the task {task} needs the columns {needs}; found are {have}: name them with --columns"


def read_row(columns: Mapping[str, Column], chosen: Mapping[str, str], row: Row) -> Row:
    """A row of a table with the task's columns.

    Raises:
        BadValue: names the column and what is wrong with it.
    """
    result: Row = {}
    for own_name, name in chosen.items():
        column = columns[own_name]
        value = row.get(name)
        if column.may_be_missing and (value is None or value == ""):
            continue
        # 1. the cell, or those of a series of columns
        if column.series and name not in row and "+" in name:
            value = [row.get(part) for part in name.split("+")]
            while value and value[-1] in (None, ""):  # rows may have fewer choices
                value.pop()
        elif name not in row:
            raise BadValue(f"has no column {name!r}")
        try:
            read = column.read(value)
        except BadValue as error:
            raise BadValue(f"{name!r} {error}") from None
        # 2. an optional column becomes a part of another one's text
        if column.joins:
            pieces = [read, result[column.joins]] if column.before else [result[column.joins], read]
            own_name, read = column.joins, "\n".join(pieces)
        result[own_name] = read
    return result


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
