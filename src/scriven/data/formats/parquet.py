"""Parquet tables, read in batches by pyarrow (extra `data`); a row is a document."""

from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, MissingExtra
from ...settings import DataSettings
from .base import LARGEST_ROW, Piece, bad_row, document, missing_column

SUFFIXES = (".parquet",)
_ROWS = 1000


def read(path: Path, settings: DataSettings) -> Iterator[Piece]:
    """The texts row by row, counted from 1.

    Raises:
        MissingExtra: pyarrow is not installed.
        InputError: no parquet file, no column `settings.field`, or a row without a text.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "data", f"reading {path}") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            if settings.field not in names:
                raise InputError(missing_column(path, 1, settings.field, names))
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS, columns=[settings.field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    if not isinstance(text, str) or len(text) > LARGEST_ROW:
                        message = f"{path} row {number}: {settings.field!r} holds no usable text"
                        yield bad_row(message, settings.skip_bad)
                    else:
                        yield from document(text)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{path} is not a readable parquet file: {reason}") from error
