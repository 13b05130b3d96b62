"""Readings of the text before it is encoded: its size, characters and digest, and a sample."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..tokenizers import clean
from .formats.base import TextChunk
from .split import TRAIN, SplitChunk

CODE_POINTS = 0x110000


@dataclass
class TextScan:
    """What one reading of the sources shows."""

    characters: int = 0
    bytes: int = 0
    alphabet: str = ""
    """The different characters, in code point order."""
    lengths: "array[int]" = field(default_factory=lambda: array("Q"))
    """Characters of each document; documents without any are left out."""
    digest: str = ""
    skipped: int = 0
    """Rows that cannot be used (`--data.skip_bad`)."""
    first_skipped: str = ""

    @property
    def documents(self) -> int:
        return len(self.lengths)


class ContentDigest:
    """SHA-256 over the documents as UTF-8, each followed by 0xFF, which UTF-8 never contains; it
    does not depend on how the documents are cut into chunks."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, chunk: TextChunk) -> bytes:
        """Adds one chunk; returns its UTF-8 bytes."""
        raw = chunk.text.encode("utf-8")
        self._sha256.update(raw)
        if chunk.ends:
            self._sha256.update(b"\xff")
        return raw

    def watch(self, chunks: Iterable[TextChunk]) -> Iterator[TextChunk]:
        """The same chunks, each added on its way."""
        for chunk in chunks:
            self.add(chunk)
            yield chunk

    def hex(self) -> str:
        return self._sha256.hexdigest()


def normalise(chunks: Iterable[TextChunk]) -> Iterator[TextChunk]:
    """Text that can be written as UTF-8, without the rows that were skipped."""
    for chunk in chunks:
        if not chunk.skipped:
            yield TextChunk(clean(chunk.text), chunk.ends)


def scan(chunks: Iterable[TextChunk], say: Callable[[str], None]) -> TextScan:
    """Reads everything once.

    Args:
        chunks: as the sources give them, not normalised.
        say: called with a sentence about the progress every 100 million characters.
    """
    found, digest = TextScan(), ContentDigest()
    seen = np.zeros(CODE_POINTS, dtype=np.bool_)
    length = said = 0
    for chunk in chunks:
        if chunk.skipped:
            found.skipped += 1
            found.first_skipped = found.first_skipped or chunk.skipped
            continue
        chunk = TextChunk(clean(chunk.text), chunk.ends)
        found.bytes += len(digest.add(chunk))
        seen[np.frombuffer(chunk.text.encode("utf-32-le"), dtype="<u4")] = True
        found.characters += len(chunk.text)
        length += len(chunk.text)
        if chunk.ends and length:
            found.lengths.append(length)
            length = 0
        if found.characters - said >= 100_000_000:
            said = found.characters
            say(f"read {said:,} characters")
    assert length == 0, "a document was not ended"
    found.alphabet = "".join(map(chr, np.flatnonzero(seen).tolist()))
    found.digest = digest.hex()
    return found


def sample_training_text(
    chunks: Iterable[SplitChunk], characters: int, limit: int
) -> Iterator[str]:
    """Training chunks for a tokenizer: all of them, or evenly spaced ones up to `limit`."""
    seen = taken = 0
    for part, text, _ in chunks:
        if part != TRAIN:
            continue
        seen += len(text)
        if characters <= limit or taken * characters < seen * limit:
            taken += len(text)
            yield text
