"""One JSON object a line; the text stands in one of its fields; a line is a document."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...settings import DataSettings
from .base import Fields, Piece, bad_fields, decoded, documents, lines, missing_column

SUFFIXES = (".jsonl", ".ndjson")


def read(path: Path, settings: DataSettings) -> Iterator[Piece]:
    """The texts row by row.

    Raises:
        InputError: as `rows`.
    """
    return documents(rows(path, settings, (settings.field,)))


def rows(path: Path, settings: DataSettings, fields: Sequence[str]) -> Iterator[Fields]:
    """The columns `fields` row by row. Blank lines are passed over; rows are counted from 1 with
    them.

    Raises:
        InputError: a row that is no JSON object, or has no text in one of the fields.
    """
    found = lines(decoded(path, settings.encoding), path)
    for number, line in enumerate(found, 1):
        if not line.strip():
            continue
        texts, wrong = _texts(path, number, line, fields)
        yield bad_fields(wrong, settings.skip_bad) if wrong else Fields(texts)


def _texts(
    path: Path, number: int, line: str, fields: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """(texts, "") or ((), what is wrong)."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        return (), f"{path} row {number} is not JSON ({reason})"
    if not isinstance(row, dict):
        return (), f"{path} row {number} is not a JSON object"
    for field in fields:
        if field not in row:
            return (), missing_column(path, number, field, map(str, row), fields)
        if not isinstance(row[field], str):
            kind = type(row[field]).__name__
            return (), f"{path} row {number}: {field!r} holds a {kind}, not a text"
    return tuple(row[field] for field in fields), ""
