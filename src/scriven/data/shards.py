"""Token ids on disk: a plain array of 16- or 32-bit numbers, read without mapping it.

A mapped file that is cut while it is read kills the process (SIGBUS); a read only comes back short.
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DamagedError, InputError
from ..tokenizers import Tokenizer, load_tokenizer
from .cache import write_whole

FORMAT = 1
MANIFEST = "manifest.json"
_LARGEST_HASHED = 256_000_000

OPEN = 64
"""Files held open at most; a process may have no more than a thousand or so."""

Segment = tuple[str, int, int]
"""File, first token in it, tokens."""


def id_type(vocab_size: int) -> str:
    """The smallest storage that holds every id: `<u2` up to 65,536 ids, else `<u4`."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


class TokenFile:
    """The ids of one part of a corpus, in order.

    Raises:
        DamagedError: the file is missing or has another size than it was written with.
    """

    def __init__(self, path: Path, dtype: str, tokens: int) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._tokens = tokens
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise self._damaged("cannot be opened") from error
        self._seen = self._stamp()
        if self._seen[0] != tokens * self._dtype.itemsize:
            raise self._damaged(f"has {self._seen[0]} bytes, not {tokens * self._dtype.itemsize}")

    def __len__(self) -> int:
        return self._tokens

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Ids `start` .. `start + count - 1` as int64 of shape (count,).

        Raises:
            DamagedError: the file was cut or overwritten since it was opened.
        """
        found: npt.NDArray[np.int64] = self.windows(np.array([start]), count)[0]
        return found

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """Windows of `length` ids from several places: int64 of shape (len(starts), length).

        Raises:
            DamagedError: the file was cut or overwritten since it was opened.
        """
        assert length >= 0
        assert len(starts) == 0 or (min(starts) >= 0 and max(starts) + length <= self._tokens)
        found = np.empty((len(starts), length), dtype=self._dtype)
        width = self._dtype.itemsize
        for row, start in zip(found, starts, strict=True):
            self._fill(memoryview(row).cast("B"), int(start) * width)
        if self._stamp() != self._seen:
            raise self._damaged("was changed while in use")
        return found.astype(np.int64)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _fill(self, buffer: memoryview, offset: int) -> None:
        place = 0
        while place < len(buffer):
            part = os.pread(self._file.fileno(), len(buffer) - place, offset + place)
            if not part:
                raise self._damaged("was cut while in use")
            buffer[place : place + len(part)] = part
            place += len(part)

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{self.path} {what}: run the same command again to prepare it anew")


class TokenFileWriter:
    """Appends ids to a new file, and knows its digest at the end."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self.tokens = 0
        self._dtype = np.dtype(dtype)
        self._digest = hashlib.sha256()
        self._file = path.open("wb")

    def append(self, *ids: npt.NDArray[np.int32]) -> None:
        """Arrays of ids, each of shape (n,) and smaller than the storage type can hold."""
        stored = np.concatenate(ids, dtype=self._dtype, casting="unsafe")
        raw = stored.view(np.uint8).data
        self._file.write(raw)
        self._digest.update(raw)
        self.tokens += len(stored)

    def finish(self) -> dict[str, object]:
        """Puts the file on the disk; its entry in the manifest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        size = self.tokens * self._dtype.itemsize
        return {"size": size, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> "TokenFileWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error there is nothing worth flushing, and a full disk would only fail again.
        try:
            self._file.close()
        except OSError:
            if error is None:
                raise


class SegmentedTokenFile(TokenFile):
    """A shard made of segments.

    Args:
        folder: where the files are.
        dtype: of the ids, as in `TokenFile`.
        segments: in reading order; those without tokens are left out.
        sizes: tokens of each file, by name.

    Raises:
        DamagedError: when a file is first read, as `TokenFile`.
    """

    def __init__(
        self, folder: Path, dtype: str, segments: Sequence[Segment], sizes: dict[str, int]
    ) -> None:
        self.path = folder
        self._dtype = np.dtype(dtype)
        self._segments = [each for each in segments if each[2]]
        self._sizes = sizes
        counts = np.array([each[2] for each in self._segments], dtype=np.int64)
        self._ends = np.cumsum(counts)
        self._tokens = int(counts.sum())
        self._shards: OrderedDict[str, TokenFile] = OrderedDict()

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """As `TokenFile.windows`; a window may reach over several files."""
        assert length >= 0
        assert len(starts) == 0 or (min(starts) >= 0 and max(starts) + length <= self._tokens)
        found = np.empty((len(starts), length), dtype=np.int64)
        places = np.searchsorted(self._ends, starts, side="right")
        for row, start, place in zip(found, starts.tolist(), places.tolist(), strict=True):
            filled = 0
            while filled < length:
                name, first, tokens = self._segments[place]
                inside = start + filled - (int(self._ends[place]) - tokens)
                count = min(length - filled, tokens - inside)
                row[filled : filled + count] = self._shard(name).read(first + inside, count)
                filled, place = filled + count, place + 1
        return found

    def close(self) -> None:
        """Closes the files."""
        while self._shards:
            self._shards.popitem()[1].close()

    def _shard(self, name: str) -> TokenFile:
        if name not in self._shards:
            while len(self._shards) >= OPEN:
                self._shards.popitem(last=False)[1].close()
            self._shards[name] = TokenFile(self.path / name, self._dtype.str, self._sizes[name])
        self._shards.move_to_end(name)
        return self._shards[name]


@dataclass(frozen=True)
class TokenDataset:
    """A text as a model reads it."""

    folder: Path
    """The prepared folder, in the cache."""
    tokenizer: Tokenizer
    train: TokenFile
    validation: TokenFile
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


def open_dataset(folder: Path, *, name: str, sources: list[str], notes: list[str]) -> TokenDataset:
    """A prepared folder, checked and opened; raises as `read_manifest` does."""
    facts = read_manifest(folder)
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != facts["tokenizer"]:
        raise DamagedError(f"{folder / 'tokenizer.json'} was changed: prepare the text again")
    return TokenDataset(
        folder=folder,
        tokenizer=tokenizer,
        train=TokenFile(folder / "train.bin", facts["dtype"], facts["train_tokens"]),
        validation=TokenFile(folder / "validation.bin", facts["dtype"], facts["validation_tokens"]),
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


def open_prepared(folder: Path, *, name: str) -> TokenDataset:
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
        SegmentedTokenFile(folder, facts["dtype"], [tuple(each) for each in segments], sizes)
        for segments in (facts["segments"]["train"], facts["segments"]["validation"])
    )
    return TokenDataset(
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
