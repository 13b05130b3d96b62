"""The first reading of the sources: how much text there is, of which characters, and its digest."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..tokenizers import clean
from .formats.base import TextChunk

UNICODE = 0x110000


@dataclass
class Survey:
    """What one reading of the sources shows."""

    characters: int = 0
    bytes: int = 0
    alphabet: str = ""
    """The different characters, in code point order."""
    lengths: "array[int]" = field(default_factory=lambda: array("Q"))
    """Characters of each document; documents without any are left out."""
    digest: str = ""
    """SHA-256 over the documents as UTF-8, each closed by 0xFF, which UTF-8 never contains."""
    skipped: int = 0
    first_skipped: str = ""

    @property
    def documents(self) -> int:
        return len(self.lengths)


class Digest:
    """The digest of a stream of pieces, the same however the pieces are cut."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self.characters = 0

    def add(self, piece: TextChunk) -> bytes:
        """Takes one piece in; its UTF-8 bytes."""
        raw = piece.text.encode("utf-8")
        self._sum.update(raw)
        if piece.ends:
            self._sum.update(b"\xff")
        self.characters += len(piece.text)
        return raw

    def text(self) -> str:
        return self._sum.hexdigest()


def cleaned(pieces: Iterable[TextChunk]) -> Iterator[TextChunk]:
    """Pieces that can be written as UTF-8, without rows that were skipped."""
    for piece in pieces:
        if not piece.skipped:
            yield TextChunk(clean(piece.text), piece.ends)


def look(pieces: Iterable[TextChunk], say: Callable[[str], None]) -> Survey:
    """Reads everything once."""
    survey, digest = Survey(), Digest()
    seen = np.zeros(UNICODE, dtype=np.bool_)
    length, told = 0, 0
    for piece in pieces:
        if piece.skipped:
            survey.skipped += 1
            survey.first_skipped = survey.first_skipped or piece.skipped
            continue
        piece = TextChunk(clean(piece.text), piece.ends)
        survey.bytes += len(digest.add(piece))
        seen[np.frombuffer(piece.text.encode("utf-32-le"), dtype="<u4")] = True
        length += len(piece.text)
        if piece.ends and length:
            survey.lengths.append(length)
            length = 0
        if digest.characters - told >= 100_000_000:
            told = digest.characters
            say(f"read {told:,} characters")
    assert length == 0, "a document was not ended"
    survey.characters = digest.characters
    survey.alphabet = "".join(map(chr, np.flatnonzero(seen).tolist()))
    survey.digest = digest.text()
    return survey
