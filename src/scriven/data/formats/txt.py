"""Plain text: one file is one document, kept character by character."""

from collections.abc import Iterator
from pathlib import Path

from ...settings import DataSettings
from .base import Piece, decoded

SUFFIXES = (".txt", ".text")


def read(path: Path, settings: DataSettings) -> Iterator[Piece]:
    """The text in pieces; the last one ends the document."""
    held: str | None = None
    for text in decoded(path, settings.encoding):
        if held is not None:
            yield Piece(held, False)
        held = text
    if held is not None:
        yield Piece(held, True)
