"""Tables with a header line, separated by commas, semicolons or tabs; a row is a document."""

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ...errors import InputError
from ...settings import DataSettings
from .base import (
    LARGEST_ROW,
    Record,
    RowTexts,
    TextChunk,
    decode,
    missing_column,
    row_documents,
    skip_or_raise,
    split_lines,
)

SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ",;\t"


def read(path: Path, settings: DataSettings) -> Iterator[TextChunk]:
    """The texts row by row; the header is row 1.

    Raises:
        InputError: as `rows`.
    """
    return row_documents(rows(path, settings, (settings.text_column,)))


def rows(path: Path, settings: DataSettings, columns: Sequence[str]) -> Iterator[RowTexts]:
    """Some columns row by row; the header is row 1.

    Raises:
        InputError: as `records`, or a column is missing.
    """
    table = _table(path, settings)
    header = next(table).values
    for column in columns:
        if column not in header:
            raise InputError(missing_column(path, 1, column, header, columns))
    for record in table:
        if record.skipped:
            yield RowTexts((), record.skipped)
        elif not all(column in record.values for column in columns):
            message = (
                f"{path} row {record.number} has {len(record.values)} columns, the header"
                f" {len(header)}"
            )
            yield RowTexts((), skip_or_raise(message, settings.skip_bad))
        else:
            yield RowTexts(tuple(record.values[column] for column in columns))


def records(path: Path, settings: DataSettings) -> Iterator[Record]:
    """Every row after the header. A short row lacks columns; one that is too long is no table row.

    The separator of a .csv is the one that occurs most often in its header.

    Raises:
        InputError: no header, one that names a column twice, or a row that is no table row.
    """
    table = _table(path, settings)
    next(table)
    return table


def _table(path: Path, settings: DataSettings) -> Iterator[Record]:
    """The header, with its names as values, and every row."""
    source = split_lines(decode(path, settings.encoding), path)
    head = next(source, "")
    counts = {separator: head.count(separator) for separator in _SEPARATORS}
    separator = "\t" if path.suffix.lower() == ".tsv" else max(counts, key=lambda x: counts[x])
    csv.field_size_limit(LARGEST_ROW)
    table = csv.reader(chain([head], source), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(table, [])]
    except csv.Error as error:
        raise InputError(f"{path} row 1 is not a table header ({error})") from error
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns {twice!r}: rename or remove one of them")
    yield Record({name: name for name in header}, 1)
    number = 1
    while True:
        number += 1
        try:
            row = next(table, None)
        except csv.Error as error:
            message = f"{path} row {number} is not a table row ({error})"
            yield Record({}, number, skip_or_raise(message, settings.skip_bad))
            continue
        if row is None:
            return
        if any(row[len(header) :]):  # an unquoted separator would put texts into wrong columns
            message = f"{path} row {number} has {len(row)} columns, the header {len(header)}"
            yield Record({}, number, skip_or_raise(message, settings.skip_bad))
        elif row:
            yield Record(dict(zip(header, row, strict=False)), number)
