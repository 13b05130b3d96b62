"""One JSON object a line; the text is in one of its fields; a line is a document."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...settings import DataSettings
from .base import (
    Record,
    RowTexts,
    TextChunk,
    decode,
    missing_column,
    row_documents,
    skip_or_raise,
    split_lines,
)

SUFFIXES = (".jsonl", ".ndjson")
CUT_AT = "line"


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The texts row by row, of the whole file or of the lines in the bytes `start` to `end`.

    Raises:
        InputError: as `rows`.
    """
    return row_documents(rows(path, settings, (settings.text_column,), start, end))


def rows(
    path: Path,
    settings: DataSettings,
    columns: Sequence[str],
    start: int = 0,
    end: int | None = None,
) -> Iterator[RowTexts]:
    """Some columns row by row. Blank lines are skipped; rows are counted from 1 with them, from
    `start` on.

    Raises:
        InputError: a row that is no JSON object, or has no text in one of the columns.
    """
    for record in records(path, settings, start, end):
        if record.skipped:
            yield RowTexts((), record.skipped)
            continue
        wrong = _column_error(_label(path, start), record, columns)
        if wrong:
            yield RowTexts((), skip_or_raise(wrong, settings.skip_bad))
        else:
            yield RowTexts(tuple(record.values[column] for column in columns))


def records(
    path: Path, settings: DataSettings, start: int = 0, end: int | None = None
) -> Iterator[Record]:
    """Every row.

    Raises:
        InputError: a row that is no JSON object.
    """
    label = _label(path, start)
    source = split_lines(decode(path, settings.encoding, start, end), label)
    for number, line in enumerate(source, 1):
        if line.isspace():
            continue
        wrong, row = "", None
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            wrong = f"{label} row {number} is not JSON ({reason})"
        if isinstance(row, dict):
            yield Record(row, number)
        else:
            wrong = wrong or f"{label} row {number} is not a JSON object"
            yield Record({}, number, skip_or_raise(wrong, settings.skip_bad))


def _label(path: Path, start: int) -> Path:
    """How messages name the file; in a range, rows are counted from its beginning."""
    return path if not start else path.with_name(f"{path.name} after byte {start:,}")


def _column_error(label: Path, record: Record, columns: Sequence[str]) -> str:
    """What is wrong with the columns of a row; empty where nothing is."""
    row, number = record.values, record.number
    for column in columns:
        if column not in row:
            return missing_column(label, number, column, map(str, row), columns)
        if not isinstance(row[column], str):
            kind = type(row[column]).__name__
            return f"{label} row {number}: {column!r} holds a {kind}, not a text"
    return ""
