"""Plain text: one file is one document, kept character by character."""

from collections.abc import Iterator
from pathlib import Path

from ...settings import DataSettings
from .base import TextChunk, decoded

SUFFIXES = (".txt", ".text")


def read(
    path: Path, settings: DataSettings, start: int = 0, end: int | None = None, ends: bool = True
) -> Iterator[TextChunk]:
    """The text, or the bytes `start` to `end` of it, in pieces; the last one ends the document,
    unless more of it follows (`ends` is false)."""
    held: str | None = None
    for text in decoded(path, settings.encoding, start, end):
        if held is not None:
            yield TextChunk(held, False)
        held = text
    if held is not None:
        yield TextChunk(held, ends)
