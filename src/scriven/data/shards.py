"""Token ids on disk, and the datasets they make up.

A token file is a plain array of 16- or 32-bit numbers. It is read, not mapped: a mapped file that
is truncated while in use kills the process (SIGBUS), a read only comes back short.
"""

import copy
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from ..errors import DamagedError, InputError
from ..files import printable
from ..format import skipped_rows
from ..manifest import (
    MANIFEST,
    FileEntry,
    check_entry,
    check_types,
    hash_file,
    parse_signed_json,
    read_file,
)
from ..tokenizers import Tokenizer, load_tokenizer

MAX_OPEN_FILES = 64
"""Token files of a dataset held open at once; a process may open about a thousand."""
_MAX_HASHED_BYTES = 256_000_000

Segment = tuple[str, int, int]
"""Token file, first token in it, number of tokens."""


def id_type(vocab_size: int) -> str:
    """The smallest storage that holds every id: `<u2` up to 65,536 ids, else `<u4`."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


_SEEKING = threading.Lock()


def _read_at(file: RawIOBase, count: int, offset: int) -> bytes:
    """At most `count` bytes from a place in a file; several threads may read at once."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), count, offset)
    with _SEEKING:  # Windows has no pread, and the threads share one position
        file.seek(offset)
        return file.read(count) or b""


class TokenFile:
    """An array of token ids on disk, of the data type that `id_type` gives.

    Args:
        vocab_size: every id that is read must be below it.

    Raises:
        DamagedError: the file is missing, or was not written with this number of tokens.
    """

    def __init__(self, path: Path, dtype: str, tokens: int, vocab_size: int = 1 << 32) -> None:
        self.path, self._dtype, self._tokens = path, np.dtype(dtype), tokens
        self._vocab_size = vocab_size
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise self._damaged("cannot be opened") from error
        self._opened = os.fstat(self._file.fileno())  # compared at every read
        size = tokens * self._dtype.itemsize
        if self._opened.st_size != size:
            raise self._damaged(f"has {self._opened.st_size} bytes, not {size}")

    def __len__(self) -> int:
        return self._tokens

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """(count,) ids from token `start` on; raises as `read_windows`."""
        ids: npt.NDArray[np.int64] = self.read_windows(np.array([start]), count)[0]
        return ids

    def read_windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """(len(starts), length) ids of windows that begin at several places.

        Raises:
            DamagedError: the file was truncated or overwritten since it was opened, or holds an id
                beyond the vocabulary.
        """
        assert length >= 0
        assert len(starts) == 0 or (min(starts) >= 0 and max(starts) + length <= self._tokens)
        ids = np.empty((len(starts), length), dtype=self._dtype)
        # one read for each row, straight into the array
        for row, start in zip(ids, starts, strict=True):
            buffer, offset = memoryview(row).cast("B"), int(start) * self._dtype.itemsize
            done = 0
            while done < len(buffer):  # a read may return less than it was asked for
                block = _read_at(self._file, len(buffer) - done, offset + done)
                if not block:
                    raise self._damaged("was truncated while in use")
                buffer[done : done + len(block)] = block
                done += len(block)
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
            raise self._damaged("was changed while in use")
        if ids.size and int(ids.max()) >= self._vocab_size:
            raise self._damaged(
                f"holds id {ids.max()}, beyond the {self._vocab_size} of the tokenizer"
            )
        return ids.astype(np.int64)  # PyTorch indexes with 64 bits

    def head(self, count: int) -> Self:
        """The first `count` tokens, as a file of its own."""
        part = copy.copy(self)
        part._tokens = min(count, self._tokens)
        return part

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{self.path} {what}: run the same command again to prepare it anew")


class SegmentedTokenFile(TokenFile):
    """Parts of many token files in a given order, read as one array.

    A segment that is repeated takes no space on disk. Files are opened and compared with their
    digests when they are first read.

    Args:
        folder: where the files are.
        segments: in reading order; those without tokens are left out.
        entries: size and digest of each file, by name.

    Raises:
        DamagedError: when a file is first read, as `TokenFile`, or where its digest differs.
    """

    def __init__(
        self,
        folder: Path,
        dtype: str,
        segments: Sequence[Segment],
        entries: dict[str, FileEntry],
        vocab_size: int,
    ) -> None:
        self.path, self._dtype, self._vocab_size = folder, np.dtype(dtype), vocab_size
        self._entries, self._verified = entries, set[str]()
        self._segments = [segment for segment in segments if segment[2]]
        counts = np.array([segment[2] for segment in self._segments], dtype=np.int64)
        self._ends = np.cumsum(counts)
        self._tokens = int(counts.sum())
        self._files: OrderedDict[str, TokenFile] = OrderedDict()

    def read_windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """As `TokenFile.read_windows`; a window may span several files."""
        assert len(starts) == 0 or (min(starts) >= 0 and max(starts) + length <= self._tokens)
        ids = np.empty((len(starts), length), dtype=np.int64)
        # the segment in which each window begins
        firsts = np.searchsorted(self._ends, starts, side="right")
        for row, start, number in zip(ids, starts.tolist(), firsts.tolist(), strict=True):
            filled = 0
            while filled < length:
                name, first, tokens = self._segments[number]
                # the place inside the segment, and how much of the window it covers
                inside = start + filled - (int(self._ends[number]) - tokens)
                count = min(length - filled, tokens - inside)
                row[filled : filled + count] = self._open(name).read(first + inside, count)
                filled, number = filled + count, number + 1
        return ids

    def close(self) -> None:
        """Closes the files."""
        while self._files:
            self._files.popitem()[1].close()

    def _open(self, name: str) -> TokenFile:
        if name not in self._files:
            while len(self._files) >= MAX_OPEN_FILES:  # closes the one used longest ago
                self._files.popitem(last=False)[1].close()
            path, entry = self.path / name, self._entries[name]
            tokens = entry.size // self._dtype.itemsize
            self._files[name] = TokenFile(path, self._dtype.str, tokens, self._vocab_size)
            if name not in self._verified and entry.size <= _MAX_HASHED_BYTES:
                check_entry(hash_file(path), entry, str(path))
                self._verified.add(name)
        self._files.move_to_end(name)
        return self._files[name]


@dataclass
class TokenFileWriter:
    """Appends ids to a file that was opened for writing, and computes its SHA-256 on the way."""

    file: BinaryIO
    dtype: str
    tokens: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    def append(self, *ids: npt.NDArray[np.int32]) -> None:
        """Appends arrays of ids, each of shape (n,) and below what the storage type can hold."""
        # ids fit by `id_type`, so the narrowing cast loses nothing
        stored = np.concatenate(ids, dtype=self.dtype, casting="unsafe")
        raw = stored.view(np.uint8).data
        self.file.write(raw)
        self.sha256.update(raw)
        self.tokens += len(stored)

    def finish(self) -> dict[str, object]:
        """Waits until the content is on the disk; returns the file's entry in the manifest."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return {"size": self.file.tell(), "sha256": self.sha256.hexdigest()}


def write_token_file(path: Path, dtype: str, *ids: npt.NDArray[np.int32]) -> dict[str, object]:
    """Writes arrays of ids as a token file; returns its entry in the manifest."""
    with path.open("wb") as file:
        writer = TokenFileWriter(file, dtype)
        writer.append(*ids)
        return writer.finish()


@dataclass(frozen=True)
class TokenDataset:
    """A text in token ids, with its tokenizer."""

    folder: Path
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
    """Sentences for the user: skipped rows, leakage, why this tokenizer."""


def open_dataset(
    folder: Path,
    *,
    name: str,
    sources: Sequence[str],
    notes: Sequence[str] = (),
    given: Tokenizer | None = None,
    facts: dict[str, Any] | None = None,
) -> TokenDataset:
    """Opens a folder that `load_dataset` or `scriven prepare` left, whatever its size at once.

    Args:
        given: the tokenizer that it was made with, where that is at hand: reading takes seconds.
        facts: its manifest, where that has just been read or written.

    Raises:
        InputError, DamagedError: as `read_dataset_manifest`, or the tokenizer was changed.
    """
    facts = read_dataset_manifest(folder) if facts is None else facts
    tokenizer = given or load_tokenizer(folder)
    if tokenizer.fingerprint != facts["tokenizer"]:
        raise DamagedError(f"{folder / 'tokenizer.json'} was changed: prepare the text again")
    dtype, files = facts["dtype"], dict[str, TokenFile]()
    # `scriven prepare` leaves many files that are read as two; `load_dataset` leaves two
    size = tokenizer.vocab_size
    entries = {name: FileEntry(**entry) for name, entry in facts["files"].items()}
    for part in ("train", "validation"):
        if "segments" in facts:
            files[part] = SegmentedTokenFile(folder, dtype, facts["segments"][part], entries, size)
        else:
            files[part] = TokenFile(folder / f"{part}.bin", dtype, facts[f"{part}_tokens"], size)
    # what a user should know about the text
    notes = [*notes, *facts.get("notes", ())]
    for source in facts.get("sources", ()):
        if source["rounds"] > 1:
            notes.append(f"{source['name']} is read {source['rounds']:g} times per epoch")
    if facts.get("skipped"):
        notes.append(skipped_rows(facts["skipped"], facts["first_skipped"]))
    if facts.get("overlap"):
        notes.append(facts["overlap"])
    copied = ("characters", "bytes", "documents", "validation_bytes", "fingerprint")
    return TokenDataset(
        folder=folder,
        tokenizer=tokenizer,
        train=files["train"],
        validation=files["validation"],
        name=name,
        sources=list(sources),
        **{key: facts[key] for key in copied},
        notes=notes,
    )


def is_prepared(folder: Path) -> bool:
    """Whether `scriven prepare` made or began this folder."""
    # os.path answers False for what this user may not look at; reading it will give the reason
    return os.path.isfile(folder / "plan.json") and (
        os.path.isfile(folder / MANIFEST) or os.path.isdir(folder / "shards")
    )


def read_dataset_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset, once its files are what they were.

    Sizes are always compared, digests only of files up to 256 MB; those of the shards of
    `scriven prepare`, which may be many, when they are first read.

    Raises:
        InputError: the folder holds no dataset, or an unfinished one.
        DamagedError: the manifest or a file was changed.
    """
    path = folder / MANIFEST
    if not path.exists():
        if is_prepared(folder):
            raise InputError(f"{folder} is not finished: run the same `scriven prepare` again")
        raise InputError(f"{folder} holds no prepared text: {MANIFEST} is missing")
    try:
        facts = parse_signed_json(read_file(path), path)
        _check_facts(facts, printable(path))
        for name, entry in facts["files"].items():
            file, expected = folder / name, FileEntry(**entry)
            # a folder of gigabytes must open at once
            sharded = "segments" in facts and name.endswith(".bin")
            if sharded or expected.size > _MAX_HASHED_BYTES:
                actual = expected._replace(size=file.stat().st_size)
            else:
                actual = hash_file(file)
            check_entry(actual, expected, str(file))
    except (OSError, DamagedError) as error:
        raise DamagedError(f"{error}: prepare the text again") from error
    return facts


_FACTS = {
    "files": dict, "dtype": str, "train_tokens": int, "validation_tokens": int,
    "validation_bytes": int, "tokenizer": str, "characters": int, "bytes": int, "documents": int,
    "fingerprint": str, "overlap": (str, type(None)),
}  # fmt: skip
_PREPARED_FACTS = {
    "segments": dict, "sources": list, "skipped": int, "first_skipped": str, "notes": list,
    "shards": int, "tokenizer_kind": str, "vocab_size": int,
}  # fmt: skip


def _check_facts(facts: dict[str, Any], where: str) -> None:
    """Raises DamagedError where a manifest does not say what `open_dataset` reads from it."""
    check_types(facts, where, _FACTS)
    misfit = f"{where} is damaged: its files and segments do not fit each other"
    if facts["dtype"] not in ("<u2", "<u4"):
        raise DamagedError(misfit)
    # names stay inside of the folder
    for name, entry in facts["files"].items():
        check_types(entry, where, {"size": int, "sha256": str})
        if len(entry) != 2 or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedError(misfit)
    if "segments" not in facts:
        return
    check_types(facts, where, _PREPARED_FACTS)
    if not all(isinstance(note, str) for note in facts["notes"]):
        raise DamagedError(misfit)
    for source in facts["sources"]:
        check_types(source, where, {"name": str, "rounds": (int, float)})
    width = np.dtype(facts["dtype"]).itemsize
    for part in ("train", "validation"):
        segments = facts["segments"].get(part)
        for segment in segments if isinstance(segments, list) else [None]:
            if not isinstance(segment, list) or list(map(type, segment)) != [str, int, int]:
                raise DamagedError(misfit)
            name, first, tokens = segment
            size = facts["files"].get(name, {"size": -1})["size"] // width
            if first < 0 or tokens < 0 or first + tokens > size:
                raise DamagedError(misfit)
