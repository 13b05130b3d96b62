"""`scriven prepare`: from sources to a folder that `scriven train` reads, however large they are.

    plan.json            what is read, in which pieces; written first
    tokenizer.json, tokenizer_config.json
    shards/JOB-PIECE/    ids, and a record of where they come from; whole or absent
    manifest.json        written last: with it the folder is finished

Whatever is there was finished, so a command that was killed goes on with what is missing.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ... import config
from ...errors import BusyError, InputError, SettingError
from ...format import format_bytes
from ...settings import DataSettings, TokenizerSettings
from ...tokenizers import Tokenizer, load_tokenizer
from ..cache import disk_errors
from ..shards import MANIFEST, read_manifest
from ..sources import run_name
from . import mix, vocabulary
from .crew import work
from .finish import close
from .piece import FOLDER, Left, Record, records
from .plan import NAME, PIECE, Plan, check_unchanged, make_plan, read_plan, write_plan

_LOCK = ".lock"
_SMALL = 64_000_000
"""Bytes below which starting processes takes longer than the work."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    sources: Sequence[str]
    out: Path
    data: DataSettings = field(default_factory=DataSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    tokenizer_from: Path | None = None
    """A tokenizer.json, or a folder that has one."""
    weights: str | None = None
    processes: int | None = None
    seed: int = 0
    format: str | None = None
    bounded: bool = True
    """Whether at most 20 MB are held out."""
    piece: int = PIECE


def build(wanted: Wanted, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Prepares the sources, or what is missing of them; the summary.

    Raises:
        InputError: a source, a setting or the folder cannot be used.
        BusyError: another process is at work in the folder. ResourceError: the disk is full.
    """
    began, out = time.monotonic(), wanted.out
    names = [run_name([source]) for source in wanted.sources]
    shares = None
    if wanted.weights is not None:
        shares = mix.parse_weights(wanted.weights, names, list(wanted.sources))
    if wanted.format not in (None, "datatrove"):
        raise SettingError(f"--format {wanted.format}: only datatrove needs to be named")
    given = None if wanted.tokenizer_from is None else vocabulary.read_from(wanted.tokenizer_from)
    if wanted.format and given is None:
        raise SettingError("--format datatrove: name the tokenizer of these ids with --tokenizer")
    if wanted.processes is not None and wanted.processes < 1:
        raise SettingError(f"--processes {wanted.processes}: at least 1")
    asked = _asked(wanted, given)
    with disk_errors(out, 0, f"preparing {out}", "free some space or choose another --out"):
        _claim(out)
        try:
            with FileLock(out / _LOCK, timeout=0):
                _tidy(out)
                plan = _plan(wanted, asked)
                if not (out / MANIFEST).exists():
                    _fill(plan, wanted, given, shares, names, say)
        except Timeout as error:
            raise BusyError(f"{out} is being prepared by another process: wait for it") from error
    return summary(out, time.monotonic() - began)


def summary(out: Path, seconds: float) -> dict[str, Any]:
    """What a finished folder holds; raises as `read_manifest`."""
    facts = read_manifest(out)
    kept = ("documents", "characters", "bytes", "train_tokens", "validation_tokens", "skipped",
            "first_skipped", "sources", "tokenizer_kind", "vocab_size", "shards")  # fmt: skip
    return {
        "out": str(out),
        **{name: facts[name] for name in kept},
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(facts["bytes"] / 1e6 / max(1e-3, seconds), 1),
    }


def _asked(wanted: Wanted, given: Tokenizer | None) -> dict[str, Any]:
    """What has to be the same when a command goes on."""
    chosen = config.to_dict(wanted.tokenizer)
    return {
        "sources": list(wanted.sources),
        "data": config.to_dict(wanted.data),
        "tokenizer": chosen if given is None else given.fingerprint,
        "weights": wanted.weights,
        "seed": wanted.seed,
        "format": wanted.format,
    }


def _claim(out: Path) -> None:
    """Makes the folder; raises InputError where it holds something else."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, not a folder: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    ours = {NAME, MANIFEST, FOLDER, _LOCK, *vocabulary.FILES}
    others = [
        name
        for name in os.listdir(out)
        if name not in ours and not name.startswith(".") and not name.endswith(".tmp")
    ]
    if others:
        raise InputError(f"{out} holds something else ({others[0]}): choose another --out")


def _tidy(out: Path) -> None:
    """Removes what a process that was killed had not written to its end."""
    for name in (NAME, MANIFEST, *vocabulary.FILES):
        for half_written in out.glob(f"{name}.*.tmp"):
            half_written.unlink()


def _plan(wanted: Wanted, asked: dict[str, Any]) -> Plan:
    """The plan of the folder, or a new one where nothing was encoded yet."""
    out = wanted.out
    begun = read_plan(out)
    there = any(not path.name.startswith(".") for path in (out / FOLDER).glob("*"))
    if begun is not None and (there or (out / MANIFEST).exists()):
        finished = (out / MANIFEST).exists()
        for name, value in asked.items():
            if name == "weights" and not finished:
                continue  # pieces are the same with any weights
            if begun.asked.get(name) != value:
                what = "another tokenizer" if name == "tokenizer" else f"other {name}"
                raise InputError(f"{out} was begun with {what}: use the same, or another --out")
        if not finished:
            check_unchanged(begun)
            begun = dataclasses.replace(begun, asked=asked)
            write_plan(out, begun)
        return begun
    for name in vocabulary.FILES:
        (out / name).unlink(missing_ok=True)
    plan = make_plan(
        wanted.sources,
        wanted.data,
        asked,
        seed=wanted.seed,
        format_=wanted.format,
        bounded=wanted.bounded,
        piece=wanted.piece,
    )
    write_plan(out, plan)
    return plan


def _fill(
    plan: Plan,
    wanted: Wanted,
    given: Tokenizer | None,
    shares: list[float] | None,
    names: list[str],
    say: Callable[[str], None],
) -> None:
    """Makes what is missing, and closes the folder."""
    out = wanted.out
    if not (out / vocabulary.FILES[1]).exists():
        if given is None:
            say("learning a tokenizer from a sample")
        vocabulary.save(given or vocabulary.learn(plan, wanted.tokenizer), out)
    tokenizer = load_tokenizer(out)
    done = records(out, plan)
    left = [
        Left(job, len(pieces), pieces[-1]["rows"] if pieces else 0)
        for job, pieces in enumerate(done)
        if not (pieces and pieces[-1]["last"])
    ]
    kept = [piece for pieces in done for piece in pieces]
    if kept:
        say(f"going on: {len(kept)} pieces are there")
    progress = _Progress(vocabulary.size(plan), say)
    for piece in kept:
        progress.add(piece, old=True)
    usual = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = wanted.processes or (1 if vocabulary.size(plan) < _SMALL else usual or 1)
    for piece in work(plan, out, left, processes):
        progress.add(piece)
    check_unchanged(plan)
    pieces = [piece for pieces in records(out, plan) for piece in pieces]
    close(plan, out, tokenizer, pieces, shares, names)


class _Progress:
    """A line every few seconds: how much is done, how fast, and how long it still takes."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self._total, self._say = total, say
        self._bytes = self._documents = self._new = 0
        self._began = self._told = time.monotonic()

    def add(self, piece: Record, *, old: bool = False) -> None:
        self._bytes += piece["bytes"]
        self._documents += piece["documents"]
        if old:
            return
        self._new += piece["bytes"]
        now = time.monotonic()
        if now - self._told < 5:
            return
        self._told = now
        speed = self._new / (now - self._began)
        left = max(0.0, self._total - self._bytes) / max(1.0, speed)
        minutes, seconds = divmod(round(left), 60)
        self._say(
            f"{format_bytes(self._bytes)} of about {format_bytes(max(self._total, self._bytes))},"
            f" {self._documents:,} documents, {speed / 1e6:.1f} MB/s,"
            f" left {minutes // 60}:{minutes % 60:02}:{seconds:02}"
        )
