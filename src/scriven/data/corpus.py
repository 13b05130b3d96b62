"""A prepared text: its tokenizer, its two shards, and the manifest that vouches for them."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DamagedError, InputError
from ..tokenizers import Tokenizer, load_tokenizer
from .cache import write_whole
from .segments import SegmentedShard
from .shards import Shard

FORMAT = 1
MANIFEST = "manifest.json"
_LARGEST_HASHED = 256_000_000


@dataclass(frozen=True)
class Corpus:
    """A text as a model reads it."""

    folder: Path
    """The prepared folder, in the cache."""
    tokenizer: Tokenizer
    train: Shard
    validation: Shard
    name: str
    """The default name of a run, from the sources."""
    sources: list[str]
    characters: int
    bytes: int
    documents: int
    validation_bytes: int
    """UTF-8 bytes of the validation text, for bits per byte."""
    fingerprint: str
    """SHA-256 over the content of the sources and every setting that changes the ids."""
    pairs: bool = False
    """Whether its documents alternate: the source of a pair, then its target (`pairs.py`)."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user: skipped rows, overlap, why this tokenizer."""


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Closes a prepared folder: after this it is whole."""
    body = {"format": FORMAT, **facts}
    whole = {**body, "sha256": _digest(body)}
    write_whole(folder / MANIFEST, (json.dumps(whole, indent=2) + "\n").encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The facts of a prepared folder, once its files are what they were.

    Sizes are always compared, digests of files up to 256 MB; of the shards of `scriven prepare`,
    which may be many, only sizes.

    Raises:
        InputError: the folder holds no prepared text, or one of a newer version.
        DamagedError: the manifest or a file was changed.
    """
    path = folder / MANIFEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no prepared text: {MANIFEST} is missing") from error
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} cannot be read: prepare the text again") from error
    if not isinstance(facts, dict) or facts.pop("sha256", None) != _digest(facts):
        raise DamagedError(f"{path} was changed: prepare the text again")
    if facts["format"] != FORMAT:
        raise InputError(f"{folder} has format {facts['format']}, this version reads {FORMAT}")
    many = "segments" in facts
    for name, entry in facts["files"].items():
        hashed = entry["size"] <= _LARGEST_HASHED and not (many and name.endswith(".bin"))
        _check(folder / name, entry["size"], entry["sha256"] if hashed else None)
    return facts


def open_corpus(folder: Path, *, name: str, sources: list[str], notes: list[str]) -> Corpus:
    """A prepared folder, checked and opened; raises as `read_manifest` does."""
    facts = read_manifest(folder)
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != facts["tokenizer"]:
        raise DamagedError(f"{folder / 'tokenizer.json'} was changed: prepare the text again")
    return Corpus(
        folder=folder,
        tokenizer=tokenizer,
        train=Shard(folder / "train.bin", facts["dtype"], facts["train_tokens"]),
        validation=Shard(folder / "validation.bin", facts["dtype"], facts["validation_tokens"]),
        name=name,
        sources=sources,
        characters=facts["characters"],
        bytes=facts["bytes"],
        documents=facts["documents"],
        validation_bytes=facts["validation_bytes"],
        fingerprint=facts["fingerprint"],
        notes=[*notes, *([facts["overlap"]] if facts["overlap"] else [])],
    )


def is_prepared(folder: Path) -> bool:
    """Whether `scriven prepare` made or began this folder."""
    # os.path says no of what may not be looked at; who reads it will say why
    return os.path.isfile(folder / "plan.json") and (
        os.path.isfile(folder / MANIFEST) or os.path.isdir(folder / "shards")
    )


def open_prepared(folder: Path, *, name: str) -> Corpus:
    """A folder that `scriven prepare` made, at once, whatever its size.

    Raises:
        InputError: it is not finished. DamagedError: as `read_manifest`.
    """
    if not (folder / MANIFEST).exists():
        raise InputError(f"{folder} is not finished: run the same `scriven prepare` again")
    facts = read_manifest(folder)
    if "segments" not in facts:
        raise InputError(f"{folder} was not made by `scriven prepare`: name its texts instead")
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != facts["tokenizer"]:
        raise DamagedError(f"{folder / 'tokenizer.json'} was changed: prepare the text again")
    width = np.dtype(facts["dtype"]).itemsize
    sizes = {name: made["size"] // width for name, made in facts["files"].items()}
    train, validation = (
        SegmentedShard(folder, facts["dtype"], [tuple(each) for each in segments], sizes)
        for segments in (facts["segments"]["train"], facts["segments"]["validation"])
    )
    return Corpus(
        folder=folder,
        tokenizer=tokenizer,
        train=train,
        validation=validation,
        name=name,
        sources=[str(folder)],
        characters=facts["characters"],
        bytes=facts["bytes"],
        documents=facts["documents"],
        validation_bytes=facts["validation_bytes"],
        fingerprint=facts["fingerprint"],
        notes=_notes(facts),
    )


def _notes(facts: dict[str, Any]) -> list[str]:
    """What a user should know of a prepared folder."""
    repeated = [each for each in facts["sources"] if each["rounds"] > 1]
    notes = [f"{each['name']} is read {each['rounds']:g} times in a pass" for each in repeated]
    if facts["skipped"]:
        notes.append(f"{facts['skipped']:,} rows were skipped, first {facts['first_skipped']}")
    return notes


def entry(path: Path) -> dict[str, object]:
    """The manifest's entry of a file as it is now."""
    return {"size": path.stat().st_size, "sha256": _file_digest(path)}


def _check(path: Path, size: int, digest: str | None) -> None:
    try:
        found = path.stat().st_size
        if found != size:
            raise DamagedError(f"{path} has {found} bytes, not {size}: prepare the text again")
        if digest is not None and _file_digest(path) != digest:
            raise DamagedError(f"{path} was changed: prepare the text again")
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: prepare the text again") from error


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
