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
_END = b"\xff"
"""Follows a document in the digest: a byte that UTF-8 never contains."""


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
    """SHA-256 over the documents as UTF-8, each followed by 0xFF; it does not depend on how they
    are cut into chunks."""
    skipped: int = 0
    """Rows that cannot be used (`--data.skip_bad`)."""
    first_skipped: str = ""


def normalise(
    chunks: Iterable[TextChunk], digest: "hashlib._Hash | None" = None
) -> Iterator[TextChunk]:
    """Text that can be written as UTF-8, without the rows that were skipped.

    Args:
        digest: updated with the text that passes, as `scan` does it.
    """
    for chunk in chunks:
        if not chunk.skipped:
            text = clean(chunk.text)
            if digest is not None:
                digest.update(text.encode("utf-8") + _END[: chunk.ends])
            yield TextChunk(text, chunk.ends)


def scan(chunks: Iterable[TextChunk], say: Callable[[str], None]) -> TextScan:
    """Reads everything once.

    Args:
        chunks: as the sources give them, not normalised.
        say: called with a sentence about the progress every 100 million characters.
    """
    result, digest = TextScan(), hashlib.sha256()
    seen = np.zeros(CODE_POINTS, dtype=np.bool_)
    length = said = 0  # characters of this document; characters at the last message
    for chunk in chunks:
        if chunk.skipped:
            result.skipped += 1
            result.first_skipped = result.first_skipped or chunk.skipped
            continue
        text = clean(chunk.text)
        raw = text.encode("utf-8")
        digest.update(raw + _END[: chunk.ends])
        result.bytes += len(raw)
        # code points as indices: an array is about a hundred times faster than a set
        seen[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")] = True
        result.characters += len(text)
        length += len(text)
        if chunk.ends and length:
            result.lengths.append(length)
            length = 0
        if result.characters - said >= 100_000_000:
            said = result.characters
            say(f"read {said:,} characters")
    assert length == 0, "a document was not ended"
    result.alphabet = "".join(map(chr, np.flatnonzero(seen).tolist()))
    result.digest = digest.hexdigest()
    return result


def sample_training_text(
    chunks: Iterable[SplitChunk], characters: int, limit: int
) -> Iterator[str]:
    """Training chunks for a tokenizer: all of them, or evenly spaced ones up to `limit`."""
    seen = taken = 0
    for part, text, _ in chunks:
        if part != TRAIN:
            continue
        seen += len(text)
        # whenever less than its share was taken so far
        if characters <= limit or taken * characters < seen * limit:
            taken += len(text)
            yield text
