"""One JSON object a line; the text stands in one of its fields; a line is a document."""

import json
from collections.abc import Iterator
from pathlib import Path

from ...settings import DataSettings
from .base import Piece, bad_row, decoded, document, lines, missing_column

SUFFIXES = (".jsonl", ".ndjson")


def read(path: Path, settings: DataSettings) -> Iterator[Piece]:
    """The texts row by row. Blank lines are passed over; rows are counted from 1 with them.

    Raises:
        InputError: a row that is no JSON object, or has no text in `settings.field`.
    """
    rows = lines(decoded(path, settings.encoding), path)
    for number, line in enumerate(rows, 1):
        if not line.strip():
            continue
        text, wrong = _text(path, number, line, settings.field)
        if wrong:
            yield bad_row(wrong, settings.skip_bad)
        else:
            yield from document(text)


def _text(path: Path, number: int, line: str, field: str) -> tuple[str, str]:
    """(text, "") or ("", what is wrong)."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        return "", f"{path} row {number} is not JSON ({reason})"
    if not isinstance(row, dict):
        return "", f"{path} row {number} is not a JSON object"
    if field not in row:
        return "", missing_column(path, number, field, map(str, row))
    if not isinstance(row[field], str):
        kind = type(row[field]).__name__
        return "", f"{path} row {number}: {field!r} holds a {kind}, not a text"
    return row[field], ""
