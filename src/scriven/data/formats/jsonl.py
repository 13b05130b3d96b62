"""One JSON object a line; a line is a document."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...settings import DataSettings
from ..decoding import decode
from .base import Record, range_label, skip_or_raise, split_lines, translate

SUFFIXES = (".jsonl", ".ndjson")
NAME = "JSON lines"
CUT_AT = "line"


def records(
    path: Path,
    settings: DataSettings,
    columns: Sequence[str] = (),
    start: int = 0,
    end: int | None = None,
) -> Iterator[Record]:
    """Every row, of the whole file or of the lines in the bytes `start` to `end`.

    Blank lines are skipped; rows are counted from 1 with them, from `start` on.
    """
    label = range_label(path, start)
    source = split_lines(translate(decode(path, settings.encoding, start, end), settings), label)
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
