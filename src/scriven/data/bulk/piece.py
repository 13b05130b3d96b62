"""One piece: a part of the sources as ids in a folder of its own, whole or absent.

A job that has a range is one piece. A file that can only be read from its beginning makes many, so
that a kill loses one of them: each says how many rows were read, and the next goes on there.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DamagedError
from ...tokenizers import Tokenizer, clean
from ...tokenizers.fast import Encoder
from ..cache import sync_folder, write_whole
from ..encode import encode
from ..formats.base import TextChunk
from ..formats.jsonl import read as read_lines
from ..formats.txt import read as read_text
from ..sources import Sources
from ..split import TRAIN, VALIDATION, SplitChunk
from . import datatrove
from .plan import Plan

FOLDER = "shards"
RECORD = "piece.json"

Record = dict[str, Any]


def name_of(job: int, piece: int) -> str:
    """The folder of a piece; in the order of names, pieces are in the order of the text."""
    return f"{job:06d}-{piece:06d}"


def records(folder: Path, plan: Plan) -> list[list[Record]]:
    """What is there of each job, in order; what a killed process left half is removed.

    Raises:
        DamagedError: a record is not what was written.
    """
    found: list[list[Record]] = [[] for _ in plan.jobs]
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    for entry in sorted(os.listdir(place)):
        if entry.startswith("."):
            shutil.rmtree(place / entry, ignore_errors=True)
            continue
        try:
            job, piece = map(int, entry.split("-"))
            record = json.loads((place / entry / RECORD).read_text(encoding="utf-8"))
            if piece != len(found[job]):
                raise ValueError("a piece is missing")
            found[job].append(record)
        except (OSError, ValueError, IndexError) as error:
            raise DamagedError(
                f"{place / entry} is not a whole piece: remove {folder} and prepare again"
            ) from error
    return found


class Left(NamedTuple):
    """What is missing of a job."""

    job: int
    pieces: int
    """That are there."""
    rows: int
    """That were read for them."""


def run_job(
    plan: Plan, left: Left, tokenizer: Tokenizer, encoder: Encoder, out: Path
) -> Iterator[Record]:
    """Makes what is missing of a job, one record after each piece.

    Raises:
        InputError: the text cannot be read. OSError: the disk is full or cannot be written.
    """
    job = plan.jobs[left.job]
    file = plan.files[job.file]
    reading = None if file.kind == "ids" else _Reading(plan, left.job, left.rows)
    for piece in itertools.count(left.pieces):
        name = name_of(left.job, piece)
        work = out / FOLDER / f".{name}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            if reading is None:
                facts = _copy(plan, left.job, tokenizer, work)
            else:
                facts = _encode(plan, reading, tokenizer, encoder, work)
            record = {"name": name, "source": file.source, **facts}
            write_whole(work / RECORD, (json.dumps(record) + "\n").encode())
            keep(work, out / FOLDER / name)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        yield record
        if record["last"]:
            return


def _encode(
    plan: Plan, reading: "_Reading", tokenizer: Tokenizer, encoder: Encoder, work: Path
) -> Record:
    facts = encode(
        reading.parts(),
        tokenizer,
        work,
        characters=1,
        close_documents=plan.close,
        say=lambda _: None,
        encoder=encoder,
        compare=False,
    )
    facts.pop("overlap")
    return facts | reading.facts()


def _copy(plan: Plan, number: int, tokenizer: Tokenizer, work: Path) -> Record:
    job = plan.jobs[number]
    assert job.end is not None, "a job of ids has a range"
    held_out = [is_held_out(plan, number, row) for row in range(job.end - job.start)]
    path = Path(plan.files[job.file].label)
    return datatrove.copy(path, job.start, job.end, held_out, tokenizer, work)


def keep(work: Path, place: Path) -> None:
    """Gives a finished piece its name."""
    sync_folder(work)
    os.rename(work, place)
    sync_folder(place.parent)


def pieces_of(plan: Plan, number: int) -> Iterator[TextChunk]:
    """The text of a job from its beginning."""
    job = plan.jobs[number]
    file = plan.files[job.file]
    if file.kind == "text":
        return read_text(Path(file.label), plan.data, job.start, job.end, job.ends)
    if file.kind == "lines":
        return read_lines(Path(file.label), plan.data, job.start, job.end)
    return _whole(file.label, plan)


def _whole(label: str, plan: Plan) -> Iterator[TextChunk]:
    with Sources([label]) as found:
        yield from found.read(plan.data)


def is_held_out(plan: Plan, number: int, row: int) -> bool:
    """Whether a document that is drawn is for validation: one in `every`, at a seeded place.

    The draw is stratified, so that the share is kept in small corpora too.
    """
    job = plan.jobs[number]
    if job.part is not None:
        return job.part == VALIDATION
    block, place = divmod(row, plan.every)
    return place == _drawn(plan.seed, number, block, plan.every)


@lru_cache(64)
def _drawn(seed: int, number: int, block: int, every: int) -> int:
    digest = hashlib.sha256(f"{seed}/{number}/{block}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % every


class _Reading:
    """The documents of a job, piece by piece, and what is told of each piece."""

    def __init__(self, plan: Plan, number: int, skip: int) -> None:
        self._plan, self._number = plan, number
        self._part: Callable[[int], int] = lambda row: int(is_held_out(plan, number, row))
        self._pieces = pieces_of(plan, number)
        self._rows = 0
        self._first = ""
        self._last = False
        while self._rows < skip:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rows += piece.ends or bool(piece.skipped)
        self._zero()

    def parts(self) -> Iterator[SplitChunk]:
        """The parts of the next piece; it ends with a document, or where the job ends."""
        self._zero()
        part, filled = self._part(self._rows), False
        for piece in self._pieces:
            if piece.skipped:
                self._rows += 1
                self._skipped += 1
                self._first = self._first or piece.skipped
                part = self._part(self._rows)
                continue
            text = clean(piece.text)
            filled = filled or bool(text)
            self._characters += len(text)
            self._bytes += len(text) if text.isascii() else len(text.encode("utf-8"))
            if filled:
                yield SplitChunk(part, text, piece.ends)
            if piece.ends:
                self._rows += 1
                self._documents += filled
                part, filled = self._part(self._rows), False
                if self._bytes >= self._plan.piece and self._plan.jobs[self._number].end is None:
                    return
        self._last = True

    def facts(self) -> Record:
        """For the record of the piece just read."""
        return {
            "rows": self._rows,
            "last": self._last,
            "documents": self._documents,
            "characters": self._characters,
            "bytes": self._bytes,
            "skipped": self._skipped,
            "first_skipped": self._first,
        }

    def _zero(self) -> None:
        self._documents = self._characters = self._bytes = self._skipped = 0
        self._first = ""


assert (TRAIN, VALIDATION) == (0, 1), "a part is whether a document is held out"
