"""Scans a text once and decides what is held out for validation, before anything is encoded.

A single text keeps its end for validation; of many documents whole ones are drawn by a seeded hash.
"""

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError, SettingError
from ..format import plural
from ..tokenizers import clean
from .formats.base import TextChunk
from .sampler import splitmix64

TRAIN, VALIDATION = 0, 1
MIN_DOCUMENTS = 10
"""Documents from which on whole ones are held out."""

LONG_LINE = 40
"""Characters of a line that is compared; shorter ones (names, refrains) repeat in any text."""
MIN_LINES = 20
LEAKAGE_WARNING = 0.2
_COMPARED_WHOLE = 20_000_000

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
    notes: list[str] = field(default_factory=list)
    """What the user should know of how the text was read; each once."""


def normalise(
    chunks: Iterable[TextChunk], digest: "hashlib._Hash | None" = None
) -> Iterator[TextChunk]:
    """Text that can be written as UTF-8, without the rows that were skipped.

    Args:
        digest: updated with the text that passes, as `scan` does it.
    """
    for chunk in chunks:
        if not (chunk.skipped or chunk.note):
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
        if chunk.note:
            result.notes += [chunk.note] if chunk.note not in result.notes else []
            continue
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


@dataclass(frozen=True)
class Split:
    """Either a place (in characters over all documents) or a choice of documents."""

    place: int | None
    held_out: npt.NDArray[np.bool_] | None


class SplitChunk(NamedTuple):
    """A part of a document for training or validation."""

    part: int
    """TRAIN or VALIDATION."""
    text: str
    ends: bool
    """Whether the document ends with this chunk."""


def choose_split(
    lengths: npt.NDArray[np.int64], fraction: float, seed: int, *, pairs: bool = False
) -> Split:
    """Holds out about `fraction` of the characters.

    With ten documents or more, whole ones in the order of a seeded hash, until the fraction is
    reached; with fewer, or when none is short enough, the last characters: training keeps
    `int((1 - fraction) * characters)`. Of pairs the last ones are held out, by their number.

    Args:
        lengths: (documents,) characters.
        pairs: whether documents alternate between source and target.

    Raises:
        SettingError: a fraction that is not between 0 and 1.
        InputError: too short a text for two tokens in both parts; says how many are needed.
    """
    if not 0 < fraction < 1:
        raise SettingError(f"--data.val_fraction={fraction}: between 0 and 1, as 0.1")
    if pairs:  # a document is a side of a pair, so pairs are kept whole
        count = len(lengths) // 2
        train = int((1 - fraction) * count)
        if not 0 < train < count:
            remedy = "give at least 2" if count < 2 else "give more, or a smaller fraction"
            raise InputError(
                f"{count} pairs cannot be split by --data.val_fraction={fraction:g}: {remedy}"
            )
        return Split(None, np.arange(len(lengths)) >= 2 * train)
    total = int(lengths.sum())
    # the usual split of tiny Shakespeare: 1,003,854 and 111,540 characters
    place = int((1 - fraction) * total)
    if min(place, total - place) < 2:
        size = plural(total, "character")
        raise InputError(
            f"the text has {size}: at least {min_characters(fraction)} are needed to hold out"
            f" {fraction:.0%} for validation"
        )
    held_out = None
    if len(lengths) >= MIN_DOCUMENTS:
        held_out = _draw_documents(lengths, fraction * total, seed)
    return Split(place if held_out is None else None, held_out)


def min_characters(fraction: float) -> int:
    """The fewest characters that leave two in both parts."""
    return next(
        total
        for total in itertools.count(4)
        if min(place := int((1 - fraction) * total), total - place) >= 2
    )


def split_chunks(chunks: Iterable[TextChunk], split: Split) -> Iterator[SplitChunk]:
    """Each chunk with its part; a chunk across the border is cut there.

    Documents without a character are passed over, as `scan` counts none.
    """
    document = at = 0  # number of the document, and its place in characters over all documents
    filled = False  # whether this document has a character yet
    for text, ends, *_ in chunks:
        filled = filled or bool(text)
        if not text and not (ends and filled):
            continue
        if split.held_out is not None:  # whole documents: all chunks of one go to its part
            pieces = [(int(split.held_out[document]), text)]
        else:  # the chunk that contains the place is cut in two
            assert split.place is not None
            before = max(0, min(len(text), split.place - at))  # characters that are for training
            at += len(text)
            last = VALIDATION if at > split.place else TRAIN
            pieces = [(TRAIN, text[:before]), (last, text[before:])]
        pieces = [piece for piece in pieces if piece[1]] or pieces[-1:]
        for number, (part, piece) in enumerate(pieces, 1):
            yield SplitChunk(part, piece, ends and number == len(pieces))
        if ends:
            document, filled = document + 1, False


def _draw_documents(
    lengths: npt.NDArray[np.int64], target: float, seed: int
) -> npt.NDArray[np.bool_] | None:
    """Documents held out, or None when none is short enough to fit into the target."""
    # 1. documents in random order; one that is larger than the whole target is for training
    with np.errstate(over="ignore"):
        # the state of SplitMix64 after 1, 2, 3 ... steps, from a start that depends on the seed
        start = np.uint64(seed % (1 << 64)) * np.uint64(0xD1342543DE82EF95)
        steps = np.arange(1, len(lengths) + 1, dtype=np.uint64) + start
        hashes = splitmix64(steps * np.uint64(0x9E3779B97F4A7C15))  # (documents,)
    order = np.argsort(hashes, kind="stable")
    order = order[lengths[order] <= target]
    sums = np.cumsum(lengths[order])
    if not len(sums):
        return None
    # 2. as many of them as come nearest to the target
    count = int(np.argmin(np.abs(sums - target))) + 1
    held_out = np.zeros(len(lengths), dtype=np.bool_)
    held_out[order[:count]] = True
    # 3. a few large documents may not allow anything near it: then the text is split by position
    size = int(sums[count - 1])
    close = target / 2 <= size <= 2 * target
    return held_out if close and min(size, int(lengths.sum()) - size) >= 2 else None


@dataclass
class LeakageCheck:
    """Counts the longer lines of the validation text that stand in the training text too.

    Memory stays bounded on any text: beyond 20 million characters only lines with certain hashes
    are compared, the same in both parts.

    Args:
        characters: of the whole text.
    """

    characters: int
    _train: set[int] = field(default_factory=set)
    _validation: list[int] = field(default_factory=list)

    def add(self, part: int, text: str) -> None:
        """Adds the lines of a chunk; a line that the end of a chunk cuts is not found again."""
        # Python's hash of a text differs between processes, but both parts are seen by this one
        every = max(1, self.characters // _COMPARED_WHOLE)
        hashes = (hash(line) for line in text.split("\n") if len(line) >= LONG_LINE)
        compared = [number for number in hashes if number % every == 0]
        if part == TRAIN:
            self._train.update(compared)
        else:
            self._validation += compared

    def note(self) -> str | None:
        """A warning when a good part of the validation lines was seen in training."""
        lines = len(self._validation)
        shared = sum(number in self._train for number in self._validation)
        if lines < MIN_LINES or shared < LEAKAGE_WARNING * lines:
            return None
        return (
            f"{shared / lines:.0%} of the longer lines held out for validation also stand in the"
            " training text: the validation loss will look better than it is"
        )
