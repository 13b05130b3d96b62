"""Parquet tables, read in batches by pyarrow (extra `data`); a row is a document."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import InputError, MissingExtra
from ...settings import DataSettings
from ..decoding import COMPRESSED
from .base import Record, missing_column

SUFFIXES = (".parquet",)
NAME = "Parquet"
NEEDS = "data"
_BATCH_ROWS = 1000


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every row, of the given columns or of all, counted from 1.

    Raises:
        MissingExtra: pyarrow is not installed.
        InputError: no parquet file, or a column is missing.
    """
    if path.suffix.lower() in COMPRESSED:
        raise InputError(f"{path}: a Parquet file is compressed inside: decompress it first")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "data", f"reading {path}") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            roots = [each if each in names else each.split(".")[0] for each in columns]
            for root, column in zip(roots, columns, strict=True):
                if root not in names:
                    raise InputError(missing_column(path, 1, column, names, columns))
            # only the columns that are needed are read from the disk
            number = 0
            for batch in table.iter_batches(_BATCH_ROWS, columns=roots or None):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, number)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{path} is not a readable parquet file: {reason}") from error
