"""Excel spreadsheets, read row by row by openpyxl (extra `documents`): a row is a document.

The first row names the columns; formulas are read as the values that were saved with them.
"""

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, MissingExtra
from ...registry import did_you_mean
from ...settings import DataSettings
from ..documents import open_zip, reading
from .base import LARGEST_ROW, Record, missing_column

SUFFIXES = (".xlsx",)
NAME = "Excel spreadsheets"
NEEDS = "documents"
CONTAINER = True

_MOST_COLUMNS = 16_384
"""Columns that a spreadsheet can have."""


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every row below the first of the sheet `data.table`, by default of the first one.

    Empty rows are passed over; rows are counted as the program shows them.

    Raises:
        InputError: no spreadsheet, a damaged or encrypted one, or no such sheet or column.
        MissingExtra: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra("openpyxl", "documents", f"reading {path}") from error
    with open_zip(path, "a spreadsheet") as container, reading(path, "a spreadsheet"):
        book = openpyxl.load_workbook(
            container.fp, read_only=True, data_only=True, keep_links=False
        )
        try:
            yield from _rows(book, path, settings, columns)
        finally:
            book.close()


def _rows(
    book: Any, path: Path, settings: DataSettings, columns: Sequence[str]
) -> Iterator[Record]:
    # 1. the sheet, and the names of its columns
    if settings.columns:
        raise InputError(f"{path}: --data.columns is for csv and tsv; name the columns in row 1")
    sheet = settings.table or book.sheetnames[0]
    if sheet not in book.sheetnames:
        raise InputError(f"{path} has no sheet {sheet!r}: {did_you_mean(sheet, book.sheetnames)}")
    rows = enumerate(book[sheet].iter_rows(values_only=True, max_col=_MOST_COLUMNS), 1)
    names = ["" if cell is None else str(cell).strip() for cell in next(rows, (1, ()))[1]]
    twice = next((each for each in names if each and names.count(each) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns {twice!r}: rename or remove one of them")
    if not any(names):
        raise InputError(f"{path}: row 1 of sheet {sheet!r} is empty: name the columns there")
    for column in columns:
        if column not in names:
            raise InputError(missing_column(path, 1, column, filter(None, names), columns))
    # 2. the rows that are not empty
    for number, row in rows:
        values = {name: _plain(cell) for name, cell in zip(names, row, strict=False) if name}
        if any(value is not None for value in values.values()):
            yield Record(values, number)


def _plain(cell: Any) -> Any:
    """A cell as JSON could hold it."""
    if isinstance(cell, datetime.date | datetime.time | datetime.timedelta):
        return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1 << 53:
        return int(cell)
    if isinstance(cell, str) and len(cell) > LARGEST_ROW:
        raise InputError("a cell is too long")
    return cell
