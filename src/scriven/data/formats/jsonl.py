"""One JSON object a line; the text stands in one of its fields; a line is a document."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...settings import DataSettings
from .base import (
    Fields,
    Record,
    TextChunk,
    bad_fields,
    bad_record,
    decoded,
    documents,
    lines,
    missing_column,
)

SUFFIXES = (".jsonl", ".ndjson")


def read(
    path: Path, settings: DataSettings, start: int = 0, end: int | None = None
) -> Iterator[TextChunk]:
    """The texts row by row, of the whole file or of the lines in the bytes `start` to `end`.

    Raises:
        InputError: as `rows`.
    """
    return documents(rows(path, settings, (settings.text_column,), start, end))


def rows(
    path: Path,
    settings: DataSettings,
    fields: Sequence[str],
    start: int = 0,
    end: int | None = None,
) -> Iterator[Fields]:
    """The columns `fields` row by row. Blank lines are passed over; rows are counted from 1 with
    them, from `start` on.

    Raises:
        InputError: a row that is no JSON object, or has no text in one of the fields.
    """
    told = path if not start else path.with_name(f"{path.name} after byte {start:,}")
    for record in records(path, settings, start, end):
        if record.skipped:
            yield Fields((), record.skipped)
            continue
        texts, wrong = _texts(told, record, fields)
        yield bad_fields(wrong, settings.skip_bad) if wrong else Fields(texts)


def records(
    path: Path, settings: DataSettings, start: int = 0, end: int | None = None
) -> Iterator[Record]:
    """Every row.

    Raises:
        InputError: a row that is no JSON object.
    """
    told = path if not start else path.with_name(f"{path.name} after byte {start:,}")
    source = lines(decoded(path, settings.encoding, start, end), told)
    for number, line in enumerate(source, 1):
        if line.isspace():
            continue
        wrong, row = "", None
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            wrong = f"{told} row {number} is not JSON ({reason})"
        if isinstance(row, dict):
            yield Record(row, number)
        else:
            wrong = wrong or f"{told} row {number} is not a JSON object"
            yield bad_record(wrong, number, settings.skip_bad)


def _texts(path: Path, record: Record, fields: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """(texts, "") or ((), what is wrong)."""
    row, number = record.values, record.number
    for field in fields:
        if field not in row:
            return (), missing_column(path, number, field, map(str, row), fields)
        if not isinstance(row[field], str):
            kind = type(row[field]).__name__
            return (), f"{path} row {number}: {field!r} holds a {kind}, not a text"
    return tuple(row[field] for field in fields), ""
