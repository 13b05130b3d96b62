"""Which part of the text is held out for validation, decided before anything is encoded.

A single text keeps its end for validation; many documents are drawn whole, by a seeded hash.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError, SettingError
from .formats.base import TextChunk

FEWEST_DOCUMENTS = 10
TRAIN, VALIDATION = 0, 1


@dataclass(frozen=True)
class Split:
    """Either a place (in characters over all documents) or a choice of documents."""

    place: int | None
    held_out: npt.NDArray[np.bool_] | None


class SplitChunk(NamedTuple):
    """A piece of text, and where it belongs."""

    part: int
    text: str
    ends: bool


def decide(lengths: npt.NDArray[np.int64], share: float, seed: int) -> Split:
    """Holds out about `share` of the characters.

    With ten documents or more, whole ones in the order of a seeded hash, until the share is met;
    with fewer, or when none is short enough, the last characters: training keeps
    `int((1 - share) * characters)`.

    Raises:
        SettingError: a share that is not between 0 and 1.
        InputError: too short a text for two tokens on both sides; the least length is named.
    """
    if not 0 < share < 1:
        raise SettingError(f"--data.val_fraction={share}: between 0 and 1, as 0.1")
    total = int(lengths.sum())
    place = int((1 - share) * total)
    if min(place, total - place) < 2:
        raise InputError(
            f"the text has {_count(total)}: at least {smallest(share)} are needed to hold out"
            f" {share:.0%} for validation"
        )
    if len(lengths) >= FEWEST_DOCUMENTS:
        held_out = _draw(lengths, share * total, seed)
        if held_out is not None:
            return Split(None, held_out)
    return Split(place, None)


def smallest(share: float) -> int:
    """The fewest characters that leave two on both sides."""
    total = max(4, int(1 / max(share, 1 - share)))
    while min(int((1 - share) * total), total - int((1 - share) * total)) < 2:
        total += 1
    return total


def assign(pieces: Iterable[TextChunk], split: Split) -> Iterator[SplitChunk]:
    """Each piece with its part; a piece across the border is cut there."""
    document, at, filled = 0, 0, False
    for text, ends, _ in pieces:
        if split.held_out is not None:
            if text:
                filled = True
                yield SplitChunk(int(split.held_out[document]), text, ends)
            elif ends and filled:
                yield SplitChunk(int(split.held_out[document]), "", True)
            if ends and filled:
                document, filled = document + 1, False
            continue
        assert split.place is not None
        before = max(0, min(len(text), split.place - at))
        at += len(text)
        filled = filled or bool(text)
        if before:
            yield SplitChunk(TRAIN, text[:before], ends and before == len(text))
        if before < len(text) or (not text and ends and filled):
            yield SplitChunk(VALIDATION if at > split.place else TRAIN, text[before:], ends)
        filled = filled and not ends


def _draw(lengths: npt.NDArray[np.int64], target: float, seed: int) -> npt.NDArray[np.bool_] | None:
    """Documents held out, or None when none is short enough to fit into the target."""
    order = np.argsort(_hashes(len(lengths), seed), kind="stable")
    order = order[lengths[order] <= target]
    sums = np.cumsum(lengths[order])
    if not len(sums):
        return None
    count = int(np.argmin(np.abs(sums - target))) + 1
    held_out = np.zeros(len(lengths), dtype=np.bool_)
    held_out[order[:count]] = True
    held = int(sums[count - 1])
    close = target / 2 <= held <= 2 * target
    return held_out if close and min(held, int(lengths.sum()) - held) >= 2 else None


def _hashes(count: int, seed: int) -> npt.NDArray[np.uint64]:
    """splitmix64 (Steele et al. 2014) of the document numbers."""
    with np.errstate(over="ignore"):
        start = np.uint64(seed % (1 << 64)) * np.uint64(0xD1342543DE82EF95)
        state = (np.arange(1, count + 1, dtype=np.uint64) + start) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def _count(total: int) -> str:
    return "1 character" if total == 1 else f"{total:,} characters"
