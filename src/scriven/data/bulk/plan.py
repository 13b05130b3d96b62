"""Which files are read, in which pieces, and what is held out: decided before anything is encoded.

The plan is a pure function of the sources and the settings. It is written into the folder at the
beginning, so that a killed preparation goes on with the same pieces.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import config
from ...errors import DamagedError, InputError
from ...settings import DataSettings
from ..cache import write_whole
from ..compression import COMPRESSED, strip_compression
from ..sources import Source, Sources
from ..split import TRAIN, VALIDATION, decide
from . import ranges

NAME = "plan.json"
PIECE = 32_000_000
"""Bytes of text that are encoded as one; what a kill loses, at most, of each process."""
VALIDATION_BYTES = 20_000_000
"""Of text held out at most, unless a share is asked for: beyond, measuring only takes longer."""
_TEXTS = {".jsonl": "lines", ".ndjson": "lines", ".csv": "whole", ".tsv": "whole",
          ".parquet": "whole"}  # fmt: skip


@dataclass(frozen=True)
class File:
    """One file or corpus of a source."""

    source: int
    label: str
    kind: str
    """text (one document, any range can be read), lines (rows, any range), whole (from the
    beginning only), or ids (tokens that datatrove wrote)."""
    size: int
    """Bytes, 0 where there is no file."""
    changed: int
    """When the file was last changed, in nanoseconds."""


@dataclass(frozen=True)
class Job:
    """A range of one file, to be encoded by one process."""

    file: int
    start: int
    end: int | None
    part: int | None
    """Where all of it belongs; None: each document is drawn."""
    ends: bool
    """Whether the document ends with the range."""


@dataclass(frozen=True)
class Plan:
    """Everything a process needs to know beside the tokenizer."""

    asked: dict[str, Any]
    files: list[File]
    jobs: list[Job]
    data: DataSettings
    seed: int
    every: int
    """One document in so many is held out."""
    close: bool
    """Whether EOS ends a document."""
    piece: int

    @property
    def bytes(self) -> int:
        """Of all files, as they are on the disk."""
        return sum(file.size for file in self.files)


def make_plan(
    names: Sequence[str],
    data: DataSettings,
    asked: dict[str, Any],
    *,
    seed: int,
    format_: str | None = None,
    bounded: bool = True,
    piece: int = PIECE,
) -> Plan:
    """Looks at the sources, without reading them.

    Args:
        names: sources, as a user types them.
        asked: what must not change until the folder is finished.
        format_: `datatrove` for folders of token files.
        bounded: whether at most 20 MB are held out.

    Raises:
        InputError: a source that cannot be used, or too little text.
        SettingError: an impossible share.
    """
    files = [
        file
        for number, name in enumerate(names)
        for file in (_ids(number, name) if format_ else _found(number, name, data))
    ]
    files = [file for file in files if file.size or file.kind == "whole"]
    if not files:
        raise InputError(f"{', '.join(names[:3])} holds no text: give a file that has some")
    total = sum(file.size for file in files)
    share = (
        min(data.val_fraction, VALIDATION_BYTES / total) if bounded and total else data.val_fraction
    )
    texts = all(file.kind == "text" for file in files)
    sizes = np.array([file.size for file in files], dtype=np.int64)
    split = decide(sizes if texts else np.array([1000]), share, seed)
    place = split.place if texts and split.held_out is None else None
    jobs, before = [], 0
    for number, file in enumerate(files):
        part: int | None = None
        if texts and split.held_out is not None:
            part = int(split.held_out[number])
        borders = ranges.borders(Path(file.label), file.kind, file.size, data.encoding, piece)
        if place is not None and before < place < before + file.size:
            middle = ranges.next_character(Path(file.label), place - before, data.encoding)
            borders = sorted({*borders, middle})
        for start, end in itertools.pairwise(borders):
            if place is not None:
                part = TRAIN if before + start < place else VALIDATION
            jobs.append(Job(number, start, end, part, end == file.size))
        if len(borders) < 2:
            jobs.append(Job(number, 0, None, part, True))
        before += file.size
    close = len(files) > 1 or not texts
    return Plan(asked, files, jobs, data, seed, max(2, round(1 / share)), close, piece)


def write_plan(folder: Path, plan: Plan) -> None:
    """Puts the plan into the folder."""
    write_whole(folder / NAME, (json.dumps(dataclasses.asdict(plan), indent=1) + "\n").encode())


def read_plan(folder: Path) -> Plan | None:
    """The plan of a folder that was begun; None where there is none.

    Raises:
        DamagedError: it is not what was written.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["files"] = [File(**file) for file in found["files"]]
        found["jobs"] = [Job(**job) for job in found["jobs"]]
        found["data"] = config.replace(DataSettings(), found["data"], "data")
        return Plan(**found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{path} was changed: remove {folder} and prepare again") from error


def check_unchanged(plan: Plan) -> None:
    """Raises InputError where a file is no longer what it was when the plan was made."""
    for file in plan.files:
        if file.changed and _stamp(Path(file.label)) != (file.size, file.changed):
            raise InputError(
                f"{file.label} has changed since this folder was begun: remove the folder, or"
                " choose another --out"
            )


def _found(number: int, name: str, data: DataSettings) -> list[File]:
    if name == "-" or Path(name).is_fifo():
        raise InputError(f"{name} can be read only once: write it into a file first")
    with Sources([name]) as found:
        return [_file(number, source, data) for source in found.found]


def _file(number: int, source: Source, data: DataSettings) -> File:
    if source.path is None:
        return File(number, source.label, "whole", 0, 0)
    kind = _TEXTS.get(strip_compression(source.path).suffix.lower(), "text")
    if source.path.suffix.lower() in COMPRESSED or not ranges.divisible(data.encoding):
        kind = "whole"
    return File(number, str(source.path), kind, *_stamp(source.path))


def _ids(number: int, name: str) -> list[File]:
    folder = Path(name)
    found = sorted(folder.rglob("*.ds")) if folder.is_dir() else [folder]
    if not found or any(path.suffix != ".ds" or not path.is_file() for path in found):
        raise InputError(f"{name} holds no .ds files: name a folder that datatrove wrote")
    return [File(number, str(path), "ids", *_stamp(path)) for path in found]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns
