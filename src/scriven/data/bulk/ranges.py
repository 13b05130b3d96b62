"""Where a file may be cut so that its parts, encoded apart, give the ids of the whole."""

import codecs
from pathlib import Path
from typing import BinaryIO

from ...errors import InputError
from ...tokenizers.patterns import boundary
from .datatrove import documents

_WINDOW = 1 << 16


def divisible(encoding: str) -> bool:
    """Whether the border between two characters can be found anywhere: UTF-8 and single bytes."""
    try:
        if codecs.lookup(encoding).name == "utf-8":
            return True
        return len(bytes(range(256)).decode(encoding, "replace")) == 256
    except (LookupError, UnicodeError):
        return False


def borders(path: Path, kind: str, size: int, encoding: str, piece: int) -> list[int]:
    """0, the places about `piece` bytes apart where a file is cut, and its size; of token files,
    numbers of documents.

    Empty where the file can only be read from its beginning.

    Raises:
        InputError: it cannot be read.
    """
    if kind == "ids":
        count = documents(path)
        each = max(1, piece * count // max(1, size))
        return [*range(0, count, each), count]
    if kind not in ("text", "lines"):
        return []
    found = [0]
    try:
        with path.open("rb") as file:
            while size - found[-1] > piece:
                at = found[-1] + piece
                after = _line(file, at) if kind == "lines" else _word(file, at, encoding)
                if after >= size:
                    break
                found.append(after)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return [*found, size]


def next_character(path: Path, at: int, encoding: str) -> int:
    """The first border between two characters at or after a byte."""
    with path.open("rb") as file:
        return at + _skipped(_window(file, at), encoding)


def _word(file: BinaryIO, at: int, encoding: str) -> int:
    """The first boundary of words at or after a byte; where there is none nearby, of characters."""
    raw = _window(file, at)
    skipped = _skipped(raw, encoding)
    text = raw[skipped:].decode(encoding, "ignore")
    place = boundary(text)
    return at + skipped + (0 if place is None else len(text[:place].encode(encoding)))


def _line(file: BinaryIO, at: int) -> int:
    """Where the first line begins at or after a byte."""
    file.seek(at - 1)
    while part := file.readline(_WINDOW):
        if part.endswith(b"\n"):
            break
    return file.tell()


def _window(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(_WINDOW)


def _skipped(raw: bytes, encoding: str) -> int:
    """Bytes at the beginning that belong to the character before."""
    if codecs.lookup(encoding).name != "utf-8":
        return 0
    begins = (place for place, byte in enumerate(raw[:4]) if byte & 0xC0 != 0x80)
    return next(begins, len(raw[:4]))
