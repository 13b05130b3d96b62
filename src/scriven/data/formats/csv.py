"""Tables with a header line, separated by commas, semicolons or tabs; a row is a document."""

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ...errors import InputError
from ...settings import DataSettings
from .base import LARGEST_ROW, Record, decode, missing_column, skip_or_raise, split_lines

SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ",;\t"


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every row after the header, which is row 1.

    The separator of a .csv is the one that occurs most often in its header.

    Raises:
        InputError: no header, one that names a column twice or lacks one of `columns`, or a row
            that is no table row.
    """
    # 1. the header says what separates columns, and their names
    source = split_lines(decode(path, settings.encoding), path)
    head = next(source, "")
    counts = {separator: head.count(separator) for separator in _SEPARATORS}
    separator = "\t" if path.suffix.lower() == ".tsv" else max(counts, key=lambda x: counts[x])
    csv.field_size_limit(LARGEST_ROW)  # 128 kB by default
    table = csv.reader(chain([head], source), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(table, [])]
    except csv.Error as error:
        raise InputError(f"{path} row 1 is not a table header ({error})") from error
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns {twice!r}: rename or remove one of them")
    for column in columns:
        if column not in header:
            raise InputError(missing_column(path, 1, column, header, columns))
    # 2. rows, of which one may have several lines
    number = 1
    while True:
        number += 1
        wrong, row = "", None
        try:
            row = next(table, None)
        except csv.Error as error:
            wrong = f"is not a table row ({error})"
        else:
            if row is None:
                return
            values = dict(zip(header, row, strict=False))
            # A row that is too long: an unquoted separator would put texts into wrong columns.
            # One that is too short lacks columns, which matters only where they are asked for.
            if any(row[len(header) :]) or (row and not all(each in values for each in columns)):
                wrong = f"has {len(row)} columns, the header {len(header)}"
        if wrong:
            message = f"{path} row {number} {wrong}"
            yield Record({}, number, skip_or_raise(message, settings.skip_bad))
        elif row:
            yield Record(values, number)
