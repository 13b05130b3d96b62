"""Compressed files (`.gz`, `.zst`) read as one stream of bytes. gzip comes with Python, zstd with
pyarrow (extra `data`).
"""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import InputError, MissingExtra

COMPRESSED = (".gz", ".zst")


@contextlib.contextmanager
def open_compressed(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading, decompressed if its suffix is that of a compression.

    Raises:
        InputError: a compressed file is damaged or ends too early; says how far it was read.
        MissingExtra: a .zst file without pyarrow. OSError: as `open`.
    """
    suffix = path.suffix.lower()
    with path.open("rb") as raw:
        if suffix not in COMPRESSED:
            yield raw
            return
        # `raw` knows how far the compressed file was read, which a message can name
        size = path.stat().st_size
        # pyarrow reads several zstd frames in one file, as gzip does with its members
        stream = gzip.GzipFile(fileobj=raw) if suffix == ".gz" else _zstd(raw, path)
        try:
            yield cast(BinaryIO, stream)
        except (EOFError, OSError, zlib.error) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(
                f"{path} is damaged at about byte {raw.tell():,} of {size:,} ({reason}): get the"
                " file again"
            ) from error


def _zstd(raw: BinaryIO, path: Path) -> object:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra("pyarrow", "data", f"reading {path}") from error
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
