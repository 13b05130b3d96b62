"""What the readers of all formats share: chunks of text, rows, and decoding as a stream.

A format is a file of this folder, found by being here. It has `SUFFIXES`, and for texts
`read(path, settings, start, end, ends_document)`, for tables `records(path, settings, columns)`.
`CUT_AT`, "word" or "line", says where a range of bytes may begin that is read alone; such a table
also takes `start` and `end`. Bytes become characters in `decode` and nowhere else, so a wrong
encoding is refused in one way.
"""

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple, cast

from ... import registry
from ...errors import InputError, MissingExtra, SettingError
from ...settings import DataSettings

COMPRESSED = (".gz", ".zst")
"""gzip comes with Python, zstd with pyarrow (extra `data`)."""
BLOCK = 1 << 20
"""Bytes that are read at once."""
LARGEST_ROW = 64 << 20
"""Characters of one row or line of a table; a larger one is a damaged or wrong file."""

_SIGNATURES = [
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"%PDF", "a PDF document"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"PAR1", "a parquet file"),
    # a byte order mark of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]


class TextChunk(NamedTuple):
    """A part of a document, about a megabyte at most."""

    text: str
    ends: bool
    """Whether the document ends with this chunk."""
    skipped: str = ""
    """Why a row was left out, when this chunk stands for one that was (`skip_bad`)."""


class Record(NamedTuple):
    """One row of a table, whole."""

    values: dict[str, Any]
    """By column."""
    number: int
    """Of the row in its file, from 1."""
    skipped: str = ""
    """Why the row was left out (`skip_bad`); it has no values then."""


def read_documents(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The documents of a file: of a table one for each row, from the column `text_column`.

    Args:
        start, end, ends_document: for the formats with `CUT_AT`, a range of bytes, and whether the
            document ends with it.

    Raises:
        InputError: the file cannot be read, or a row cannot be used.
        MissingExtra: a package for this format is not installed.
    """
    if not hasattr(format_of(path), "records"):
        yield from format_of(path).read(path, settings, start, end, ends_document)
        return
    column = settings.text_column
    for row in read_columns(path, settings, (column,), start, end):
        if row.skipped:
            yield TextChunk("", False, row.skipped)
        else:
            yield from document_chunks(row.values[column])


def read_columns(
    path: Path,
    settings: DataSettings,
    columns: Sequence[str],
    start: int = 0,
    end: int | None = None,
) -> Iterator[Record]:
    """The rows of a table, of which some columns must hold texts; raises as `read_documents`."""
    label = range_label(path, start)
    # only formats with CUT_AT know ranges
    bounds = () if end is None else (start, end)
    for record in format_of(path).records(path, settings, columns, *bounds):
        wrong = ""
        for column in () if record.skipped else columns:
            value = record.values.get(column)
            if column not in record.values:
                wrong = missing_column(label, record.number, column, record.values, columns)
            elif not isinstance(value, str):
                kind = type(value).__name__
                wrong = f"{label} row {record.number}: {column!r} holds a {kind}, not a text"
            elif len(value) > LARGEST_ROW:
                wrong = f"{label} row {record.number}: {column!r} is too long"
            if wrong:
                record = Record({}, record.number, skip_or_raise(wrong, settings.skip_bad))
                break
        yield record


def range_label(path: Path, start: int) -> Path:
    """How messages name a file that is read from a byte on: rows are counted from there."""
    return path if not start else path.with_name(f"{path.name} after byte {start:,}")


def format_of(path: Path) -> ModuleType:
    """The module beside this one that reads a file, by its suffix; an unknown one is plain text."""
    suffix = strip_compression(path).suffix.lower()
    return known_formats().get(suffix) or known_formats()[".txt"]


def strip_compression(path: Path) -> Path:
    """The name without the suffix of a compression: a.jsonl.zst -> a.jsonl."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


def is_known(path: Path) -> bool:
    """Whether the suffix is one of a known format."""
    return strip_compression(path).suffix.lower() in known_formats()


@cache
def known_formats() -> dict[str, ModuleType]:
    """The modules of this folder by the suffixes they read."""
    modules = [registry.module(__package__, name) for name in registry.names(__package__)]
    return {suffix: module for module in modules for suffix in module.SUFFIXES}


def read_text(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """A plain text, or the bytes `start` to `end` of it; the last chunk ends the document, unless
    more of it follows (`ends_document` is false)."""
    # one block is held back, since only the last one ends the document
    held: str | None = None
    for text in decode(path, settings.encoding, start, end):
        if held is not None:
            yield TextChunk(held, False)
        held = text
    if held is not None:
        yield TextChunk(held, ends_document)


def decode(path: Path, encoding: str, start: int = 0, end: int | None = None) -> Iterator[str]:
    """The text of a file in blocks; line ends and NUL as they are, without a byte order mark.

    Args:
        start, end: bytes of the file to read, all by default; both lie between two characters.

    Raises:
        InputError: the file cannot be read, or is not in this encoding: names the offset of the
            first wrong byte, and what the file looks like.
        SettingError: no such encoding.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)("strict")
    except LookupError as error:
        raise SettingError(
            f"--data.encoding={encoding}: no such encoding; try utf-8, utf-16 or latin-1"
        ) from error
    read, block, first = start, b"", start == 0
    try:
        # a plain file is opened at once: most are
        compressed = path.suffix.lower() in COMPRESSED
        with open_compressed(path) if compressed else path.open("rb") as file:
            if start:
                file.seek(start)
            while True:
                block = file.read(BLOCK if end is None else min(BLOCK, end - read))
                text = decoder.decode(block, final=not block)
                read += len(block)
                if first and text:  # U+FEFF at the beginning is no character of the text
                    text, first = text.removeprefix("\ufeff"), False
                if text:
                    yield text
                if not block:
                    return
    except UnicodeDecodeError as error:
        # the decoder may hold bytes of the block before, of a character that was not complete
        offset = read - (len(error.object) - len(block)) + error.start
        raise InputError(_encoding_error(path, encoding, offset, error)) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def open_compressed(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading, decompressed if its name ends in .gz or .zst.

    Raises:
        InputError: a compressed file is damaged or ends too early; says how far it was read.
        MissingExtra: a .zst file without pyarrow. OSError: as `open`.
    """
    suffix = path.suffix.lower()
    with path.open("rb") as raw:
        stream: object = raw
        if suffix == ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        elif suffix == ".zst":
            try:
                import pyarrow
            except ImportError as error:
                raise MissingExtra("pyarrow", "data", f"reading {path}") from error
            # reads several zstd frames in one file, as gzip does with its members
            stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
        try:
            yield cast(BinaryIO, stream)
        except (EOFError, OSError, zlib.error) as error:
            if stream is raw:
                raise
            # `raw` knows how far the compressed file was read
            reason = " ".join(str(error).split())[:100]
            raise InputError(
                f"{path} is damaged at about byte {raw.tell():,} of {path.stat().st_size:,}"
                f" ({reason}): get the file again"
            ) from error


def split_lines(blocks: Iterable[str], path: Path) -> Iterator[str]:
    """Lines with their line feed, out of blocks of text; none may be longer than `LARGEST_ROW`."""
    rest, number, length = [""], 1, 0  # the line that is not complete yet, its number and length
    for block in blocks:
        parts = block.split("\n")
        rest.append(parts[0])  # joined once: a long line may span many blocks
        length += len(parts[0])
        if length > LARGEST_ROW:
            raise InputError(
                f"{path} row {number} is longer than {LARGEST_ROW >> 20} million characters:"
                " give such a text as a .txt file"
            )
        if len(parts) == 1:
            continue
        yield "".join(rest) + "\n"
        for part in parts[1:-1]:
            yield part + "\n"
        number += len(parts) - 1
        rest, length = [parts[-1]], len(parts[-1])
    if last := "".join(rest):
        yield last


def document_chunks(text: str) -> Iterator[TextChunk]:
    """One whole document in chunks."""
    if 0 < len(text) <= BLOCK:  # most are
        yield TextChunk(text, True)
        return
    for start in range(0, len(text), BLOCK):
        yield TextChunk(text[start : start + BLOCK], start + BLOCK >= len(text))


def skip_or_raise(message: str, skip: bool) -> str:
    """The reason why a row is left out; raised as an InputError if rows may not be skipped."""
    if not skip:
        raise InputError(f"{message} (--data.skip_bad leaves such rows out)")
    return message


def missing_column(
    path: Path, row: int, column: str, present: Iterable[str], needed: Sequence[str] = ()
) -> str:
    """The message for a row without the text column, or without one of several."""
    have = ", ".join(present) or "none"
    if len(needed) > 1:
        columns = " and ".join(needed)
        return f"{path} row {row} has no column {column!r}: it needs {columns}, and has {have}"
    return (
        f"{path} row {row} has no column {column!r}: choose with --data.text_column one of {have}"
    )


def _encoding_error(path: Path, encoding: str, offset: int, error: UnicodeDecodeError) -> str:
    # wrong bytes are most often another kind of file, which its first bytes tell
    with open_compressed(path) as file:
        head = file.read(4096)
    wrong = f"byte 0x{error.object[error.start]:02x}" if error.start < len(error.object) else "end"
    binary = "binary data" if b"\0" in head else "latin-1"
    kind = next((name for signature, name in _SIGNATURES if head.startswith(signature)), binary)
    remedy = f"use --data.encoding={kind}"
    if not kind.startswith(("latin", "utf")):
        remedy = "convert it to text first, or read its bytes with --data.encoding=latin-1"
    return (
        f"{path} is not {encoding} text: {wrong} at offset {offset}; it looks like {kind}: {remedy}"
    )
