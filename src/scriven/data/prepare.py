"""`scriven prepare`: from sources to a folder that `scriven train` reads, however large they are.

    plan.json            what is read, in which jobs; written first
    tokenizer.json, tokenizer_config.json
    shards/JOB-SHARD/    token files, and a record of where they come from; whole or absent
    manifest.json        written last: with it the folder is finished

Whatever is there was finished, so a command that was killed resumes with what is missing. The
result is the same to the byte however many processes worked on it and however often they died.
"""

import dataclasses
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from .. import config
from ..errors import BusyError, InputError, SettingError
from ..files import disk_errors, file_lock, make_folder, remove_leftovers, write_file
from ..format import clock, format_bytes, plural
from ..manifest import MANIFEST, hash_file, signed_json
from ..settings import TokenizerSettings
from ..tokenizers import Tokenizer, clean, load_tokenizer, tokenizer_class, train_tokenizer
from ..tokenizers.patterns import CHUNK
from .mixture import describe_sources, mix, parse_weights, repeats
from .pipeline import TOKENIZER_FILES, TOKENIZER_SAMPLE, choose_tokenizer
from .prepare_jobs import (
    SHARDS,
    RemainingWork,
    ShardRecord,
    is_held_out,
    read_job,
    read_records,
    run_jobs,
)
from .prepare_plan import PLAN, PrepareArgs, PreparePlan, check_unchanged, make_plan, read_plan
from .shards import Segment, read_dataset_manifest
from .sources import run_name
from .split import CODE_POINTS, VALIDATION, TextScan

_LOCK = ".lock"
_MIN_PARALLEL_BYTES = 64_000_000
"""Bytes below which starting processes takes longer than the work."""
_PROGRESS_SECONDS = 5
_SUMMARY = ("documents", "characters", "bytes", "train_tokens", "validation_tokens", "skipped",
            "first_skipped", "sources", "tokenizer_kind", "vocab_size", "shards")  # fmt: skip
"""Entries of the manifest that the command shows."""


def run_prepare(args: PrepareArgs, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Prepares the sources, or what is missing of them; returns the summary.

    Raises:
        InputError: a source, a setting or the folder cannot be used.
        BusyError: another process is at work in the folder. ResourceError: the disk is full.
    """
    began, out = time.monotonic(), args.out
    # 1. check everything that can be checked before anything is written
    names = [run_name([source]) for source in args.sources]
    weights = None
    if args.weights is not None:
        weights = parse_weights(args.weights, names, list(args.sources))
    if args.format not in (None, "datatrove"):
        raise SettingError(f"--format {args.format}: only datatrove needs to be named")
    tokenizer = None if args.tokenizer_from is None else load_tokenizer(args.tokenizer_from)
    if args.format and tokenizer is None:
        raise SettingError("--format datatrove: name the tokenizer of these ids with --tokenizer")
    if args.tokenizer.kind is not None:
        tokenizer_class(args.tokenizer.kind)
    if args.processes is not None and args.processes < 1:
        raise SettingError(f"--processes {args.processes}: at least 1")
    with disk_errors(out):
        _make_out(out)
        try:
            with file_lock(out / _LOCK, wait=False):
                remove_leftovers(out)
                # 2. the plan, or the one that a killed command left
                plan = _resume_or_plan(args, tokenizer)
                for note in plan.notes:
                    say(note)
                # 3. tokenizer, shards and manifest, as far as they are missing
                if not (out / MANIFEST).exists():
                    _save_tokenizer(plan, args, tokenizer, say)
                    _encode(plan, args, say)
                    write_file(out / MANIFEST, signed_json(_manifest(plan, out, weights, names)))
        except Timeout as error:
            raise BusyError(f"{out} is being prepared by another process: wait for it") from error
    # 4. what the finished folder holds
    facts, seconds = read_dataset_manifest(out), time.monotonic() - began
    return {
        "out": str(out),
        **{name: facts[name] for name in _SUMMARY},
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(facts["bytes"] / 1e6 / max(1e-3, seconds), 1),
    }


def _make_out(out: Path) -> None:
    """Makes the folder; raises InputError where it holds something else."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, not a folder: choose another --out")
    make_folder(out)
    expected = {PLAN, MANIFEST, SHARDS, *TOKENIZER_FILES}
    for name in os.listdir(out):  # never write among files of somebody else
        if name not in expected and not name.startswith(".") and not name.endswith(".tmp"):
            raise InputError(f"{out} holds something else ({name}): choose another --out")


def _resume_or_plan(args: PrepareArgs, tokenizer: Tokenizer | None) -> PreparePlan:
    """The plan of the folder, or a new one where nothing was encoded yet."""
    out = args.out
    settings = config.to_dict(args.tokenizer)
    fixed = {  # what has to be the same when a command resumes
        "sources": list(args.sources),
        "data": config.to_dict(args.data),
        "tokenizer": settings if tokenizer is None else tokenizer.fingerprint,
        "weights": args.weights,
        "seed": args.seed,
        "format": args.format,
    }
    plan = read_plan(out)
    finished = (out / MANIFEST).exists()
    encoded = any(not path.name.startswith(".") for path in (out / SHARDS).glob("*"))
    if plan is not None and (encoded or finished):
        for name, value in fixed.items():
            if name == "weights" and not finished:
                continue  # shards are the same with any weights
            if plan.args.get(name) != value:
                what = "another tokenizer" if name == "tokenizer" else f"other {name}"
                raise InputError(f"{out} was begun with {what}: use the same, or another --out")
        if finished:
            return plan
        check_unchanged(plan)
        plan = dataclasses.replace(plan, args=fixed)
    else:
        # a plan and a tokenizer without shards are made anew: nothing depends on them yet
        for name in TOKENIZER_FILES:
            (out / name).unlink(missing_ok=True)
        plan = make_plan(args, fixed)
    write_file(out / PLAN, (json.dumps(dataclasses.asdict(plan), indent=1) + "\n").encode())
    return plan


def _save_tokenizer(
    plan: PreparePlan, args: PrepareArgs, given: Tokenizer | None, say: Callable[[str], None]
) -> None:
    if (args.out / TOKENIZER_FILES[-1]).exists():
        return
    if given is None:
        say("learning a tokenizer from a sample")
        given = _learn_tokenizer(plan, args.tokenizer)
    # the order matters: the last file says that both are there
    files = given.to_files()
    for name in TOKENIZER_FILES:
        write_file(args.out / name, files[name])


def _learn_tokenizer(plan: PreparePlan, settings: TokenizerSettings) -> Tokenizer:
    """A tokenizer for the training text, from at most `TOKENIZER_SAMPLE` characters of it."""
    if settings.kind == "byte":  # needs no text
        return train_tokenizer("byte", iter(()), settings)
    # 1. the sample, at most 20 million characters
    texts = list(sample_jobs(plan))
    characters = sum(map(len, texts))
    if not characters:
        raise InputError(f"{plan.files[0].label} holds no text to learn a tokenizer from")
    # 2. its characters stand for those of the whole text, and its size is scaled up
    seen = np.zeros(CODE_POINTS, dtype=np.bool_)
    for text in texts:
        seen[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")] = True
    scanned = TextScan(alphabet="".join(map(chr, np.flatnonzero(seen).tolist())))
    characters_per_byte = characters / max(1, sum(len(text.encode("utf-8")) for text in texts))
    scanned.characters = max(characters, int(characters_per_byte * plan.text_bytes))
    # 3. choose and train as for a text that was read whole
    chosen, _ = choose_tokenizer(scanned, settings)
    assert chosen.kind is not None
    corpus = iter(texts) if tokenizer_class(chosen.kind).has_words else iter([scanned.alphabet])
    return train_tokenizer(chosen.kind, corpus, chosen)


def sample_jobs(plan: PreparePlan, limit: int = TOKENIZER_SAMPLE) -> Iterator[str]:
    """Training text, up to `limit` characters: all of it, or the beginnings of seeded jobs."""
    jobs = [number for number, job in enumerate(plan.jobs) if job.part != VALIDATION]
    quota = limit
    if plan.text_bytes > limit or not all(file.size for file in plan.files):
        # so few jobs that each gives at least four chunks of text
        most = max(1, limit // (4 * CHUNK))
        random.Random(json.dumps(["sample", plan.seed])).shuffle(jobs)
        jobs = sorted(jobs[:most])
        quota = limit // len(jobs) if jobs else 0
    for job in jobs:
        taken = row = 0
        for chunk in read_job(plan, job):
            # validation text must not shape the vocabulary
            text = clean(chunk.text)[: quota - taken]
            if text and not is_held_out(plan, job, row):
                taken += len(text)
                yield text
            row += chunk.ends or bool(chunk.skipped)
            if taken >= quota:
                break


def _encode(plan: PreparePlan, args: PrepareArgs, say: Callable[[str], None]) -> None:
    """Makes the shards that are missing."""
    # 1. what an earlier command finished
    done = read_records(args.out, plan)
    remaining = [
        RemainingWork(job, len(records), records[-1]["rows"] if records else 0)
        for job, records in enumerate(done)
        if not (records and records[-1]["last"])
    ]
    finished = [record for records in done for record in records]
    if finished:
        say(f"resuming: {plural(len(finished), 'shard is', 'shards are')} finished")
    # 2. encode the rest
    progress = _Progress(plan.text_bytes, say)
    for record in finished:
        progress.add(record, resumed=True)
    # the cores this process may use, which a container or Slurm may have limited
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = args.processes or (1 if plan.text_bytes < _MIN_PARALLEL_BYTES else cores or 1)
    for record in run_jobs(plan, args.out, remaining, processes):
        progress.add(record)
    # 3. a source that changed meanwhile would leave a mixture of both states
    check_unchanged(plan)


class _Progress:
    """A line every few seconds: how much is done, how fast, and how long it still takes."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self._total, self._say = total, say
        self._bytes = self._documents = self._new_bytes = 0
        self._began = self._said = time.monotonic()

    def add(self, record: ShardRecord, *, resumed: bool = False) -> None:
        self._bytes += record["bytes"]
        self._documents += record["documents"]
        if resumed:  # says nothing about the speed
            return
        self._new_bytes += record["bytes"]
        now = time.monotonic()
        if now - self._said < _PROGRESS_SECONDS:
            return
        self._said = now
        # bytes of this command alone: those of an earlier one took no time now
        speed = self._new_bytes / (now - self._began)
        left = max(0.0, self._total - self._bytes) / max(1.0, speed)
        total = format_bytes(max(self._total, self._bytes))
        self._say(
            f"{format_bytes(self._bytes)} of about {total},"
            f" {self._documents:,} documents, {speed / 1e6:.1f} MB/s,"
            f" left {clock(left)}"
        )


def _manifest(
    plan: PreparePlan, out: Path, weights: Sequence[float] | None, names: Sequence[str]
) -> dict[str, Any]:
    """The facts that make the folder whole: its files, and the order in which they are read."""
    tokenizer = load_tokenizer(out)
    # 1. the order of reading: every shard once in the order of the text, or by weight
    shards = [record for records in read_records(out, plan) for record in records]
    sources = describe_sources(shards, weights, names)
    dtype = shards[0]["dtype"]
    segments: dict[str, list[Segment]] = {
        part: [(f"{SHARDS}/{each['name']}/{part}.bin", 0, each[f"{part}_tokens"])
               for each in shards]
        for part in ("train", "validation")
    }  # fmt: skip
    if weights:
        times = repeats([source["train_tokens"] for source in sources], weights)
        segments["train"] = mix(shards, times, plan.seed, out, dtype, tokenizer.eos)
    tokens = {part: sum(segment[2] for segment in each) for part, each in segments.items()}
    for part, count in tokens.items():
        if count < 2:
            raise InputError(
                f"the {part} part has fewer than 2 tokens: give more documents, or another"
                " --data.val_fraction"
            )
    # 2. the files, and a fingerprint over them and their order
    files = {
        f"{SHARDS}/{shard['name']}/{name}": entry
        for shard in shards
        for name, entry in shard["files"].items()
    }
    content = [tokenizer.fingerprint, segments["train"], segments["validation"], files]
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    summed = ("characters", "bytes", "documents", "skipped", "validation_bytes")
    return {
        "files": files | {name: hash_file(out / name)._asdict() for name in TOKENIZER_FILES},
        "dtype": dtype,
        "segments": segments,
        "train_tokens": tokens["train"],
        "validation_tokens": tokens["validation"],
        **{name: sum(shard[name] for shard in shards) for name in summed},
        "notes": list(dict.fromkeys([*plan.notes, *(x for each in shards for x in each["notes"])])),
        "first_skipped": next((each["first_skipped"] for each in shards if each["skipped"]), ""),
        "sources": sources,
        "shards": len(shards),
        "tokenizer": tokenizer.fingerprint,
        "tokenizer_kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": fingerprint,
        "overlap": None,
    }
