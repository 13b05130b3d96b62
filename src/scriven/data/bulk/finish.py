"""The last step: the order in which pieces are read, and the manifest that makes a folder whole."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, SettingError
from ...tokenizers import Tokenizer
from ..shards import Segment, entry, write_manifest
from . import mix, vocabulary
from .piece import FOLDER, Record
from .plan import Plan

_SUMMED = ("characters", "bytes", "documents", "skipped", "validation_bytes")


def close(
    plan: Plan,
    out: Path,
    tokenizer: Tokenizer,
    pieces: Sequence[Record],
    shares: Sequence[float] | None,
    names: Sequence[str],
) -> None:
    """Writes the manifest.

    Args:
        pieces: all of them, in the order of the text.
        shares: the weight of each source, if they are weighed.
        names: of the sources.

    Raises:
        InputError: too little text in a part. SettingError: weights that cannot be met.
    """
    sources = _sources(pieces, shares, names)
    dtype = pieces[0]["dtype"]
    train = _segments(pieces, "train")
    held_out = _segments(pieces, "validation")
    if shares:
        often = [source["rounds"] for source in sources]
        train = mix.mix(pieces, often, plan.seed, out, dtype, tokenizer.eos)
    tokens = {part: sum(each[2] for each in segments) for part, segments in
              (("train", train), ("validation", held_out))}  # fmt: skip
    for part, found in tokens.items():
        if found < 2:
            raise InputError(
                f"the {part} part has fewer than 2 tokens: give more documents, or another"
                " --data.val_fraction"
            )
    files = {
        f"{FOLDER}/{piece['name']}/{name}": made
        for piece in pieces
        for name, made in piece["files"].items()
    }
    content = json.dumps([tokenizer.fingerprint, train, held_out, files], sort_keys=True)
    skipped = [piece["first_skipped"] for piece in pieces if piece["skipped"]]
    facts = {
        "files": files | {name: entry(out / name) for name in vocabulary.FILES},
        "dtype": dtype,
        "segments": {"train": train, "validation": held_out},
        "train_tokens": tokens["train"],
        "validation_tokens": tokens["validation"],
        **{name: sum(piece[name] for piece in pieces) for name in _SUMMED},
        "first_skipped": skipped[0] if skipped else "",
        "sources": sources,
        "shards": len(pieces),
        "tokenizer": tokenizer.fingerprint,
        "tokenizer_kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
        "overlap": None,
    }
    write_manifest(out, facts)


def _segments(pieces: Sequence[Record], part: str) -> list[Segment]:
    """Every piece once, in the order of the text."""
    return [(f"{FOLDER}/{each['name']}/{part}.bin", 0, each[f"{part}_tokens"]) for each in pieces]


def _sources(
    pieces: Sequence[Record], shares: Sequence[float] | None, names: Sequence[str]
) -> list[dict[str, Any]]:
    """What the manifest tells of each source, and how often it is read."""
    found = []
    for number, name in enumerate(names):
        own = [piece for piece in pieces if piece["source"] == number]
        sums = {key: sum(piece[key] for piece in own)
                for key in ("documents", "bytes", "train_tokens")}  # fmt: skip
        found.append({"name": name, **sums, "weight": None, "rounds": 1.0})
    if shares is None:
        return found
    for source in found:
        if not source["train_tokens"]:
            raise InputError(f"--weights: {source['name']} has no text to train on: leave it out")
    often = mix.rounds([source["train_tokens"] for source in found], shares)
    for source, times, share in zip(found, often, shares, strict=True):
        if times > mix.MOST:
            raise SettingError(
                f"--weights: {source['name']} would be read {times:,.0f} times: give it a smaller"
                " share"
            )
        source |= {"weight": round(share, 6), "rounds": round(times, 4)}
    return found
