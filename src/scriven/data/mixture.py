"""Several sources in given proportions, by reading some of them more than once per epoch.

A weight is the share of a source among the tokens of an epoch. The source that is the largest for
its weight is read once, the others as often as their weights then ask for: all their shards a whole
number of times, and for the fraction a seeded choice of shards, the last of them up to the end of a
document. A repeated shard takes no space on disk: it is named again.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, SettingError
from .prepare_jobs import SHARDS, ShardRecord
from .shards import Segment

MAX_REPEATS = 100.0
"""Times a source may be read per epoch. Beyond four, repeating teaches much less than new text
(Muennighoff et al. 2023, arXiv 2305.16264, section 6)."""
_LOOK_BACK = 1 << 20


def parse_weights(text: str, names: Sequence[str], sources: Sequence[str]) -> list[float]:
    """`a=0.7,b=0.3` as a weight for each source; their sum is 1.

    Args:
        names: of the sources, short.
        sources: as the user typed them, which name them as well.

    Raises:
        SettingError: not of this form, a name that is no source, or a source without a weight.
    """
    # 1. each entry names one source
    weights: dict[int, float] = {}
    for entry in text.split(","):
        name, equals, value = entry.strip().rpartition("=")
        known = enumerate(zip(names, sources, strict=True))
        matches = [number for number, both in known if name.strip() in both]
        if not equals or not matches:
            raise SettingError(
                f"--weights {entry.strip()!r} names no source: write NAME=SHARE with the names"
                f" {', '.join(names)}"
            )
        if len(matches) > 1:
            raise SettingError(f"--weights {name!r} names two sources: write their paths instead")
        try:
            weights[matches[0]] = float(value)
        except ValueError as error:
            raise SettingError(f"--weights {entry.strip()!r}: {value!r} is not a number") from error
    # 2. and each source is named
    missing = [name for number, name in enumerate(names) if number not in weights]
    if missing:
        raise SettingError(f"--weights leaves out {missing[0]}: give every source a share")
    ordered = [weights[number] for number in range(len(names))]
    if not all(0 < weight < float("inf") for weight in ordered):
        raise SettingError("--weights: each share must be above 0; leave a source out instead")
    return [weight / sum(ordered) for weight in ordered]


def repeats(tokens: Sequence[int], weights: Sequence[float]) -> list[float]:
    """How often each source is read per epoch; the least is 1."""
    # epochs that each source could fill alone with its share
    supply = [count / weight for count, weight in zip(tokens, weights, strict=True)]
    return [max(supply) / each for each in supply]


def describe_sources(
    shards: Sequence[ShardRecord], weights: Sequence[float] | None, names: Sequence[str]
) -> list[dict[str, Any]]:
    """What the manifest says of each source, and how often it is read ("rounds").

    Raises:
        InputError: a weighted source without training text.
        SettingError: a source would be read more than `MAX_REPEATS` times.
    """
    sources: list[dict[str, Any]] = [
        {
            "name": name,
            **{
                key: sum(shard[key] for shard in shards if shard["source"] == number)
                for key in ("documents", "bytes", "train_tokens")
            },
            "weight": None,
            "rounds": 1.0,
        }
        for number, name in enumerate(names)
    ]
    if weights is None:
        return sources
    for source in sources:
        if not source["train_tokens"]:
            raise InputError(f"--weights: {source['name']} has no text to train on: leave it out")
    times = repeats([source["train_tokens"] for source in sources], weights)
    for source, count, weight in zip(sources, times, weights, strict=True):
        if count > MAX_REPEATS:
            raise SettingError(
                f"--weights: {source['name']} would be read {count:,.0f} times: give it a smaller"
                " share"
            )
        source |= {"weight": round(weight, 6), "rounds": round(count, 4)}
    return sources


def mix(
    shards: Sequence[ShardRecord],
    times: Sequence[float],
    seed: int,
    out: Path,
    dtype: str,
    eos: int,
) -> list[Segment]:
    """The training shards in a seeded order, each source as many times as given."""
    order = random.Random(f"mix/{seed}")
    segments: list[Segment] = []
    for source, count in enumerate(times):
        of_source = [
            (f"{SHARDS}/{shard['name']}/train.bin", 0, shard["train_tokens"])
            for shard in shards
            if shard["source"] == source
        ]
        # all shards a whole number of times
        segments += of_source * int(count)
        # and for the fraction shards in random order until they have its tokens
        order.shuffle(of_source)
        left = round((count - int(count)) * sum(segment[2] for segment in of_source))
        for name, _, tokens in of_source:
            taken = tokens if tokens <= left else document_end(out / name, left, dtype, eos)
            segments.append((name, 0, taken))
            left -= tokens
            if left <= 0:
                break
    # the sources are mixed shard by shard; training shuffles windows over all of them anyway
    order.shuffle(segments)
    return [segment for segment in segments if segment[2]]


def document_end(path: Path, place: int, dtype: str, eos: int) -> int:
    """The end of the last document before a token, or the token where none ends nearby."""
    start = max(0, place - _LOOK_BACK)  # enough for a document of a million tokens
    width = np.dtype(dtype).itemsize
    ids = np.fromfile(path, dtype=dtype, count=place - start, offset=start * width)
    ends = np.flatnonzero(ids == eos)
    return start + int(ends[-1]) + 1 if len(ends) else place
