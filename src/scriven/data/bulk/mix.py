"""Several sources in given proportions, by reading some of them more than once.

A weight is the share of a source among the tokens of one pass. The source that is the largest for
its weight is read once, the others as often as their weights then ask for: whole rounds of all
their pieces, and for the fraction a seeded choice of pieces, the last of them up to the end of a
document. Repeated pieces cost no disk: they are named again.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import SettingError
from ..shards import Segment
from .piece import FOLDER, Record

MOST = 100.0
"""Times a source may be read in one pass."""
MANY = 4.0
"""Beyond, more rounds teach much less than new text (Muennighoff et al. 2023, section 6)."""
_LOOK_BACK = 1 << 20


def parse_weights(text: str, names: Sequence[str], sources: Sequence[str]) -> list[float]:
    """`a=0.7,b=0.3` as a weight for each source.

    Args:
        names: of the sources, short. sources: as the user typed them, which name them as well.

    Raises:
        SettingError: not of this form, a name that is no source, or a source without a weight.
    """
    weights: dict[int, float] = {}
    for entry in text.split(","):
        name, equals, value = entry.strip().rpartition("=")
        places = [
            place
            for place, pair in enumerate(zip(names, sources, strict=True))
            if name.strip() in pair
        ]
        if not equals or not places:
            raise SettingError(
                f"--weights {entry.strip()!r} names no source: write NAME=SHARE with the names"
                f" {', '.join(names)}"
            )
        if len(places) > 1:
            raise SettingError(f"--weights {name!r} names two sources: write their paths instead")
        try:
            weights[places[0]] = float(value)
        except ValueError as error:
            raise SettingError(f"--weights {entry.strip()!r}: {value!r} is no number") from error
    missing = [name for place, name in enumerate(names) if place not in weights]
    if missing:
        raise SettingError(f"--weights leaves out {missing[0]}: give every source a share")
    found = [weights[place] for place in range(len(names))]
    if not all(0 < weight < float("inf") for weight in found):
        raise SettingError("--weights: each share must be above 0; leave a source out instead")
    return [weight / sum(found) for weight in found]


def rounds(tokens: Sequence[int], weights: Sequence[float]) -> list[float]:
    """How often each source is read in one pass; the least is 1."""
    supply = [count / weight for count, weight in zip(tokens, weights, strict=True)]
    return [max(supply) / each for each in supply]


def mix(
    pieces: Sequence[Record], often: Sequence[float], seed: int, out: Path, dtype: str, eos: int
) -> list[Segment]:
    """The training pieces in a seeded order, each source as often as it should be read.

    Args:
        pieces: the records, in the order of the text. often: of each source, from `rounds`.
        out: the folder, to look for the ends of documents.
    """
    order = random.Random(f"mix/{seed}")
    found: list[Segment] = []
    for source, times in enumerate(often):
        own = [
            (f"{FOLDER}/{piece['name']}/train.bin", 0, piece["train_tokens"])
            for piece in pieces
            if piece["source"] == source
        ]
        found += own * int(times)
        order.shuffle(own)
        left = round((times - int(times)) * sum(each[2] for each in own))
        for name, _, tokens in own:
            count = tokens if tokens <= left else document_end(out / name, left, dtype, eos)
            found.append((name, 0, count))
            left -= tokens
            if left <= 0:
                break
    order.shuffle(found)
    return [each for each in found if each[2]]


def document_end(path: Path, place: int, dtype: str, eos: int) -> int:
    """The end of the last document before a token, or the token where none ends nearby."""
    start = max(0, place - _LOOK_BACK)
    width = np.dtype(dtype).itemsize
    ids = np.fromfile(path, dtype=dtype, count=place - start, offset=start * width)
    ends = np.flatnonzero(ids == eos)
    return start + int(ends[-1]) + 1 if len(ends) else place
