"""What the readers of all formats share: a piece of a document, and text decoded as it streams.

Bytes become characters here and nowhere else, so a wrong encoding is refused in one way.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import InputError, SettingError
from ..compression import open_compressed

BLOCK = 1 << 20
LARGEST_ROW = 64 << 20
"""Characters of one row or line of a table; a larger one is a damaged or wrong file."""

_SIGNS = [
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"%PDF", "a PDF document"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"PAR1", "a parquet file"),
]


class TextChunk(NamedTuple):
    """A part of a document, about a megabyte at most."""

    text: str
    ends: bool
    """Whether the document ends with this piece."""
    skipped: str = ""
    """Why a row was left out, when this piece stands for one that was (`skip_bad`)."""


class Fields(NamedTuple):
    """Some columns of one row of a table."""

    texts: tuple[str, ...]
    skipped: str = ""
    """Why the row was left out (`skip_bad`); it has no texts then."""


class Record(NamedTuple):
    """One row of a table, whole."""

    values: dict[str, Any]
    """By column."""
    number: int
    """Of the row in its file."""
    skipped: str = ""
    """Why the row was left out (`skip_bad`); it has no values then."""


def decoded(path: Path, encoding: str, start: int = 0, end: int | None = None) -> Iterator[str]:
    """The text of a file in blocks; line ends and NUL as they are, without a byte order mark.

    Args:
        start, end: bytes of the file to read, all by default; both lie between two characters.

    Raises:
        InputError: the file cannot be read, or is not in this encoding: the offset of the first
            wrong byte is named, and what the file looks like.
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
        with open_compressed(path) as file:
            if start:
                file.seek(start)
            while True:
                block = file.read(BLOCK if end is None else min(BLOCK, end - read))
                text = decoder.decode(block, final=not block)
                read += len(block)
                if first and text:
                    text, first = text.removeprefix("\ufeff"), False
                if text:
                    yield text
                if not block:
                    return
    except UnicodeDecodeError as error:
        held_back = len(error.object) - len(block)
        offset = read - held_back + error.start
        raise InputError(_wrong_bytes(path, encoding, offset, error)) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def lines(blocks: Iterable[str], path: Path) -> Iterator[str]:
    """Lines with their line feed, out of blocks of text.

    Raises:
        InputError: a line longer than `LARGEST_ROW`.
    """
    rest, number, held = [""], 1, 0
    for block in blocks:
        parts = block.split("\n")
        rest.append(parts[0])
        held += len(parts[0])
        if held > LARGEST_ROW:
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
        rest, held = [parts[-1]], len(parts[-1])
    last = "".join(rest)
    if last:
        yield last


def document(text: str) -> Iterator[TextChunk]:
    """One whole document in pieces."""
    if 0 < len(text) <= BLOCK:  # most are
        yield TextChunk(text, True)
        return
    for start in range(0, len(text), BLOCK):
        yield TextChunk(text[start : start + BLOCK], start + BLOCK >= len(text))


def documents(rows: Iterable[Fields]) -> Iterator[TextChunk]:
    """Rows of one column, each a document."""
    for row in rows:
        if row.skipped:
            yield TextChunk("", False, row.skipped)
        else:
            yield from document(row.texts[0])


def missing_column(
    path: Path, row: int, field: str, found: Iterable[str], fields: Sequence[str] = ()
) -> str:
    """The message for a row without the text column, or without one of several."""
    have = ", ".join(found) or "none"
    if len(fields) > 1:
        needed = " and ".join(fields)
        return f"{path} row {row} has no column {field!r}: it needs {needed}, and has {have}"
    return f"{path} row {row} has no column {field!r}: choose with --data.text_column one of {have}"


def bad_fields(message: str, skip: bool) -> Fields:
    """A row of a table that cannot be used; raises as `bad_row`."""
    return Fields((), bad_row(message, skip).skipped)


def bad_record(message: str, number: int, skip: bool) -> Record:
    """A row of a table that cannot be read; raises as `bad_row`."""
    return Record({}, number, bad_row(message, skip).skipped)


def bad_row(message: str, skip: bool) -> TextChunk:
    """A row that cannot be used: a piece that counts it, or the error.

    Raises:
        InputError: rows may not be skipped.
    """
    if not skip:
        raise InputError(f"{message} (--data.skip_bad leaves such rows out)")
    return TextChunk("", False, message)


def _wrong_bytes(path: Path, encoding: str, offset: int, error: UnicodeDecodeError) -> str:
    with open_compressed(path) as file:
        head = file.read(4096)
    wrong = f"byte 0x{error.object[error.start]:02x}" if error.start < len(error.object) else "end"
    start = f"{path} is not {encoding} text: {wrong} at offset {offset}"
    for sign, kind in _SIGNS:
        if head.startswith(sign):
            return (
                f"{start}; it looks like {kind}: convert it to text first, or read its bytes with"
                " --data.encoding=latin-1"
            )
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return f"{start}; it looks like utf-32: use --data.encoding=utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"{start}; it looks like utf-16: use --data.encoding=utf-16"
    if b"\0" in head:
        return (
            f"{start}; it looks like binary data: convert it to text first, or read its bytes"
            " with --data.encoding=latin-1"
        )
    return f"{start}; it looks like latin-1: use --data.encoding=latin-1"
