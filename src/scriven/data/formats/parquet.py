"""Parquet tables, read in batches by pyarrow (extra `data`); a row is a document."""

from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, MissingExtra
from ...settings import DataSettings
from .base import LARGEST_ROW, Record, TextChunk, document_chunks, missing_column, skip_or_raise

SUFFIXES = (".parquet",)
_ROWS = 1000


def read(path: Path, settings: DataSettings) -> Iterator[TextChunk]:
    """The texts row by row, counted from 1.

    Raises:
        InputError: as `records`, no column `settings.text_column`, or a row without a text.
        MissingExtra: pyarrow is not installed.
    """
    for record in records(path, settings, settings.text_column):
        text = record.values[settings.text_column]
        if not isinstance(text, str) or len(text) > LARGEST_ROW:
            message = f"{path} row {record.number}: {settings.text_column!r} holds no usable text"
            yield TextChunk("", False, skip_or_raise(message, settings.skip_bad))
        else:
            yield from document_chunks(text)


def records(path: Path, settings: DataSettings, column: str | None = None) -> Iterator[Record]:
    """Every row, of all columns or of one.

    Raises:
        MissingExtra: pyarrow is not installed.
        InputError: no parquet file, or no such column.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "data", f"reading {path}") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            if column is not None and column not in names:
                raise InputError(missing_column(path, 1, column, names))
            number, columns = 0, None if column is None else [column]
            for batch in table.iter_batches(batch_size=_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, number)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{path} is not a readable parquet file: {reason}") from error
