"""Tables with a header line, separated by commas, semicolons or tabs; a row is a document."""

import contextlib
import csv
import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import InputError
from ...format import plural
from ...settings import DataSettings
from ..decoding import decode, strip_compression
from .base import LARGEST_ROW, Record, missing_column, skip_or_raise, split_lines, translate

SUFFIXES = (".csv", ".tsv")
NAME = "tables of separated values"
_SEPARATORS = ",;\t|"
_NUMBER = re.compile(r"[-+]?\d+(?:[.,:/-]\d+)*")
_SWALLOWED = 12
"""Lines inside of one field that all have the columns of rows: rows, even of free text alone."""


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every row after the header, which is row 1; or all, where `data.columns` names the columns.

    The separator of a .csv is the one that occurs most often in its header. The fields of a .tsv
    have no quotes around them, unless its header or `data.quoting` says so.

    Raises:
        InputError: no header, one that names a column twice or lacks one of `columns`, or a row
            that is no table row.
    """
    # 1. the first line says what separates columns, and their names
    lines = split_lines(translate(decode(path, settings.encoding), settings), path)
    head, number = next(lines, ""), 1
    excel = re.fullmatch(r"sep=(.)\s*", head, re.I)  # how a spreadsheet is told the separator
    if excel:
        head, number = next(lines, ""), 2
    counts = {separator: head.count(separator) for separator in _SEPARATORS}
    suffix = strip_compression(path).suffix.lower()
    separator = "\t" if suffix == ".tsv" else max(counts, key=lambda x: counts[x])
    separator = excel[1] if excel else separator
    quote = _quote(head, separator, suffix, settings)
    lines = itertools.chain([head], lines)
    if settings.columns:
        header, number = [name.strip() for name in settings.columns.split(",")], number - 1
    else:
        try:
            header = next(_split(lines, separator, quote), [])
        except csv.Error as error:
            raise InputError(f"{path} row 1 is not a table header ({error})") from error
        header = [name.strip() for name in header]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns {twice!r}: rename or remove one of them")
    for column in columns:
        if column not in header:
            hint = "; a table without a header line needs --data.columns"
            if separator == "\t" and not counts["\t"] and any(counts.values()):
                hint = "; a .tsv has tabs between its columns: with other separators, name it .csv"
            if settings.columns:
                hint = ""
            raise InputError(missing_column(path, 1, column, header, columns) + hint)
    # 2. rows, of which one may have several lines
    for fields, line, wrong in _rows(lines, separator, quote, len(header)):
        number += 1
        values = dict(zip(header, fields, strict=False))
        # A row that is too long: an unquoted separator would put texts into wrong columns.
        # One that is too short lacks columns, which matters only where they are asked for.
        short = fields and not all(each in values for each in columns)
        if any(fields[len(header) :]) or short:
            wrong = f"has {plural(len(fields), 'column')}, the header {len(header)}"
            wrong += _quoting_hint(line, separator, quote)
        if wrong:
            message = f"{path} row {number} {wrong}"
            yield Record({}, number, skip_or_raise(message, settings.skip_bad))
        elif fields:
            yield Record(values, number)


def _quote(head: str, separator: str, suffix: str, settings: DataSettings) -> str | None:
    """What stands around a field that holds a separator; None for nothing."""
    if settings.quoting is not None:
        return {"double": '"', "single": "'", "none": None}[settings.quoting]
    # a header in quotes says that there are quotes
    for quote in ('"', "'"):
        name = f"{quote}[^{quote}]*{quote}"
        if re.fullmatch(rf"{name}(?:{re.escape(separator)}{name})*\s*", head):
            return quote
    return None if separator == "\t" and suffix != ".csv" else '"'


def _split(lines: Iterable[str], separator: str, quote: str | None) -> Iterator[list[str]]:
    """The fields of each row; csv.Error where a quote stands at a wrong place."""
    if quote is None:
        texts = (line.rstrip("\r\n") for line in lines)
        return (text.split(separator) if text else [] for text in texts)
    csv.field_size_limit(LARGEST_ROW)  # 128 kB by default
    return csv.reader(lines, delimiter=separator, quotechar=quote, strict=True)


def _rows(
    lines: Iterator[str], separator: str, quote: str | None, width: int
) -> Iterator[tuple[list[str], str, str]]:
    """Fields and first line of each row, and why it is none.

    After a quote that opens a field and belongs to no other, reading goes on in the next line, so
    that the rows after it are not taken for a part of that field.
    """
    waiting: deque[str] = deque()  # lines that were read as part of a row and are rows themselves
    used: list[str] = []  # the lines of this row

    def feed() -> Iterator[str]:
        while (line := waiting.popleft() if waiting else next(lines, None)) is not None:
            used.append(line)
            yield line

    table, recent = _split(feed(), separator, quote), deque[list[str]](maxlen=64)
    while True:
        used.clear()
        wrong, fields = "", list[str]()
        try:
            row = next(table, None)
            if row is None:
                return
            fields = row
            if len(used) > 1 and _look_like_rows(used, separator, quote, width, recent):
                wrong = f"opens a quote that ends {plural(len(used) - 1, 'line')} later, after rows"
                waiting.extendleft(reversed(used[1:]))
                table = _split(feed(), separator, quote)
        except csv.Error as error:
            fields = _backslashes(used[0], separator, quote, width)
            wrong = "" if fields else f"is not a table row ({error})"
            if wrong and len(used) > 1:
                wrong = f"opens a quote that is not closed ({error}, {len(used) - 1} lines later)"
            wrong += " (quotes that are part of the text: --data.quoting=none)" if wrong else ""
            waiting.extendleft(reversed(used[1:]))
            table = _split(feed(), separator, quote)
        if wrong:
            fields = []
        elif fields:
            recent.append(fields)
        yield fields, used[0], wrong


def _backslashes(line: str, separator: str, quote: str | None, width: int) -> list[str]:
    """The fields of a row with a backslash before each quote inside of a field, as databases write
    them; empty where it is none."""
    with contextlib.suppress(csv.Error):
        fields = next(
            csv.reader(
                [line if "\\" in line else ""],
                delimiter=separator,
                quotechar=quote,
                escapechar="\\",
                doublequote=False,
                strict=True,
            ),
            [],
        )
        return fields if len(fields) == width else []
    return []


def _look_like_rows(
    lines: Sequence[str],
    separator: str,
    quote: str | None,
    width: int,
    recent: Sequence[Sequence[str]],
) -> bool:
    """Whether the lines of a row are rows themselves that a stray quote has swallowed: they have
    the columns of the table, and numbers or labels where the rows before them have such. So has the
    first line, where the quote that opens a field belongs to the text."""
    rows = []
    for line in lines:
        row = next(csv.reader([line], delimiter=separator, quotechar=quote))
        if line is lines[0] and len(row) < width:
            row = [*row[:-1], *row[-1].rstrip("\r\n").split(separator)]
        if width < 2 or len(row) != width or not all(map(str.strip, row)):
            return False
        rows.append(row)
    known = [row for row in recent if len(row) == width]
    for place in range(width):
        before, inside = {row[place] for row in known}, {row[place] for row in rows}
        if before and all(map(_NUMBER.fullmatch, before)):
            return all(map(_NUMBER.fullmatch, inside))
        if inside <= before:
            return True
    return len(rows) > _SWALLOWED


def _quoting_hint(line: str, separator: str, quote: str | None) -> str:
    if quote is None and '"' in line:
        return " (quotes are part of the text here, unless --data.quoting=double)"
    if quote == '"' and re.search(rf"(?:^|{re.escape(separator)})'", line):
        return " (fields in single quotes need --data.quoting=single)"
    return ""
