"""Tables with a header line, separated by commas, semicolons or tabs; a row is a document."""

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ...errors import InputError
from ...settings import DataSettings
from .base import LARGEST_ROW, Piece, bad_row, decoded, document, lines, missing_column

SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ",;\t"


def read(path: Path, settings: DataSettings) -> Iterator[Piece]:
    """The texts row by row; the header is row 1.

    The separator of a .csv is the one that occurs most often in its header.

    Raises:
        InputError: no header, no column `settings.field`, or a row that is no table row.
    """
    source = lines(decoded(path, settings.encoding), path)
    head = next(source, "")
    counts = {separator: head.count(separator) for separator in _SEPARATORS}
    separator = "\t" if path.suffix.lower() == ".tsv" else max(counts, key=lambda x: counts[x])
    csv.field_size_limit(LARGEST_ROW)
    table = csv.reader(chain([head], source), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(table, [])]
    except csv.Error as error:
        raise InputError(f"{path} row 1 is not a table header ({error})") from error
    if settings.field not in header:
        raise InputError(missing_column(path, 1, settings.field, header))
    column = header.index(settings.field)
    number = 1
    while True:
        number += 1
        try:
            row = next(table, None)
        except csv.Error as error:
            yield bad_row(f"{path} row {number} is not a table row ({error})", settings.skip_bad)
            continue
        if row is None:
            return
        if not row:
            continue
        if column >= len(row):
            message = f"{path} row {number} has {len(row)} columns, the header {len(header)}"
            yield bad_row(message, settings.skip_bad)
        else:
            yield from document(row[column])
