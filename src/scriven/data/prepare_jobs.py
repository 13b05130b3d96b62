"""The jobs of `scriven prepare`, run in one or several processes: each leaves folders of token
files, its shards, that are whole or absent.

A job with a byte range makes one shard. A file that can only be read from its beginning makes many,
so that a kill loses only one of them: each records how many rows were read, and the next one begins
there. The shards do not depend on the number of processes.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..errors import DamagedError, InputError, MissingExtra, ResourceError
from ..files import make_folder, new_folder
from ..manifest import check_types, read_file
from ..process import configure_threads_and_malloc
from ..tokenizers import Tokenizer, clean, load_tokenizer
from ..tokenizers.fast import Encoder, fast_encoder
from . import datatrove
from .formats.base import TextChunk, read_documents
from .pipeline import encode_split
from .prepare_plan import PreparePlan, read_plan
from .sampler import seeded_hash
from .sources import Sources
from .split import TRAIN, VALIDATION, SplitChunk

SHARDS = "shards"
RECORD = "shard.json"

ShardRecord = dict[str, Any]
"""What a shard holds: its tokens, bytes, documents, rows and the digests of its files."""


_RECORD = {
    "name": str, "source": int, "files": dict, "dtype": str, "train_tokens": int,
    "validation_tokens": int, "validation_bytes": int, "documents": int, "characters": int,
    "bytes": int, "skipped": int, "first_skipped": str, "notes": list, "rows": int, "last": bool,
}  # fmt: skip


class RemainingWork(NamedTuple):
    """What is missing of a job."""

    job: int
    shards: int
    """Number of shards that are finished."""
    rows: int
    """Rows that were read for them."""


def read_records(folder: Path, plan: PreparePlan) -> list[list[ShardRecord]]:
    """The finished shards of each job, in order; removes what a killed process left unfinished."""
    records: list[list[ShardRecord]] = [[] for _ in plan.jobs]
    shards = folder / SHARDS
    make_folder(shards)
    for name in sorted(os.listdir(shards)):
        if name.startswith("."):  # a temporary name
            shutil.rmtree(shards / name, ignore_errors=True)
            continue
        try:
            job, number = map(int, name.split("-"))
            record = json.loads(read_file(shards / name / RECORD))
            check_types(record, name, _RECORD)
            if number != len(records[job]):  # shards of a job are made in order
                raise ValueError("a shard is missing")
            records[job].append(record)
        except (ValueError, IndexError, RecursionError, DamagedError) as error:
            raise DamagedError(
                f"{shards / name} is not a whole shard: remove {folder} and prepare again"
            ) from error
    return records


def run_jobs(
    plan: PreparePlan, out: Path, remaining: Sequence[RemainingWork], processes: int
) -> Iterator[ShardRecord]:
    """Does the remaining work; yields the record of each shard as it is finished.

    Raises:
        ScrivenError: a source cannot be read, or a process was killed.
        OSError: the disk is full or cannot be written.
    """
    # 1. in this process, where others would have nothing to do
    if processes < 2 or len(remaining) < 2:
        tokenizer = load_tokenizer(out)
        encoder = fast_encoder(tokenizer)
        for work in remaining:
            yield from run_job(plan, tokenizer, encoder, out, work)
        return
    # 2. a pool of workers; a forked one would inherit locks of threads that it does not have
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())  # of the program that called us
    with _importing_nothing_of_the_user():
        finished = context.SimpleQueue()  # records, since a job may make many shards
        pool = ProcessPoolExecutor(
            min(processes, len(remaining)), context, _start_worker, (out, finished)
        )
    try:
        try:
            with _importing_nothing_of_the_user():
                futures = {pool.submit(_run_in_worker, work) for work in remaining}
        except (OSError, ValueError) as error:
            # one worker was killed while the next was being started: its pipes are closed already
            raise BrokenProcessPool(str(error)) from error
        # 3. records as they come; a failed job raises here
        while futures:
            done, futures = wait(futures, timeout=1, return_when=FIRST_COMPLETED)
            while not finished.empty():
                yield finished.get()
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process that encodes was killed: where memory is short, try again with fewer"
            " --processes; nothing finished is lost"
        ) from error
    finally:
        # not only after the jobs that run: an error or Ctrl-C ends the workers at once
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _importing_nothing_of_the_user() -> Iterator[None]:
    """Processes that start in this block run no file of the user's."""
    # a new process imports the main module: the user's script, which would prepare once more
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    # and it looks in the current folder first, where a random.py is not Python's
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


_in_worker: Callable[[RemainingWork], Iterator[ShardRecord]]
"""`run_job` with what a worker process needs for every job."""
_finished: Any


def _start_worker(out: Path, finished: Any) -> None:
    global _in_worker, _finished
    # the processes share the cores, so each encodes on one
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_threads_and_malloc()
    plan, tokenizer = read_plan(out), load_tokenizer(out)
    assert plan is not None, "a worker without a plan"
    encoder = fast_encoder(tokenizer)
    _in_worker, _finished = partial(run_job, plan, tokenizer, encoder, out), finished


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # in the middle of a shard too: nobody waits for it any more


def _run_in_worker(work: RemainingWork) -> None:
    try:
        for record in _in_worker(work):
            _finished.put(record)
    except MissingExtra as error:  # its constructor takes other arguments than pickle gives it
        raise InputError(str(error)) from None


def run_job(
    plan: PreparePlan, tokenizer: Tokenizer, encoder: Encoder, out: Path, work: RemainingWork
) -> Iterator[ShardRecord]:
    """Makes the missing shards of a job; yields one record after each shard."""
    job = plan.jobs[work.job]
    file = plan.files[job.file]
    reader = None if file.cut_at == "document" else _JobReader(plan, work.job, work.rows)
    # one shard after the other, each in a folder that gets its name when it is complete
    for number in itertools.count(work.shards):
        name = f"{work.job:06d}-{number:06d}"  # sorted by name, shards are in the order of the text
        with new_folder(out / SHARDS / name) as folder:
            if reader is None:  # token ids, which are copied
                assert job.end is not None, "a job of token ids has a range"
                held_out = [is_held_out(plan, work.job, row) for row in range(job.end - job.start)]
                facts = datatrove.copy_documents(
                    Path(file.label), job.start, job.end, held_out, tokenizer, folder
                )
            else:
                facts = encode_split(
                    reader.next_shard(),
                    tokenizer,
                    folder,
                    characters=1,
                    add_eos=plan.add_eos,
                    encoder=encoder,
                    check_leakage=False,
                )
                del facts["overlap"]
                facts |= reader.facts
            record = {"name": name, "source": file.source, **facts}
            (folder / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        yield record
        if record["last"]:
            return


def read_job(plan: PreparePlan, number: int) -> Iterator[TextChunk]:
    """The text of a job from its beginning."""
    job = plan.jobs[number]
    file = plan.files[job.file]
    if file.cut_at is None:
        with Sources([file.label], plan.data) as source:
            yield from source.read()
    else:
        path = Path(file.label)
        yield from read_documents(path, plan.data, job.start, job.end, job.ends_document)


def is_held_out(plan: PreparePlan, number: int, row: int) -> bool:
    """Whether a document is for validation: one in `val_every`, at a seeded place.

    The draw is stratified, so that small corpora keep the fraction too.
    """
    part = plan.jobs[number].part
    if part is not None:
        return part == VALIDATION
    # one in each block of `val_every` rows, at a place that the seed draws for the block
    block, place = divmod(row, plan.val_every)
    return place == _held_out_place(plan.seed, number, block, plan.val_every)


@lru_cache(64)
def _held_out_place(seed: int, number: int, block: int, val_every: int) -> int:
    return seeded_hash(f"{seed}/{number}/{block}") % val_every


class _JobReader:
    """The documents of a job shard by shard, and counts of what each shard holds.

    Args:
        rows: to skip, since finished shards hold them.
    """

    def __init__(self, plan: PreparePlan, number: int, rows: int) -> None:
        self._plan, self._number = plan, number
        self._chunks = read_job(plan, number)
        self._rows = 0
        self.facts: ShardRecord = {}
        """For the record of the shard that was just read."""
        while self._rows < rows:  # decoded and dropped: such a file has no place to begin at
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rows += chunk.ends or bool(chunk.skipped)

    def next_shard(self) -> Iterator[SplitChunk]:
        """The text of the next shard; it ends with a document, or where the job ends."""
        counts: dict[str, int] = dict.fromkeys(("documents", "characters", "bytes", "skipped"), 0)
        first_skipped, last, notes = "", True, list[str]()
        job = self._plan.jobs[self._number]
        # whether this document has a character yet; the range before may have had one
        filled = job.start > 0 and self._plan.files[job.file].cut_at == "word"
        for chunk in self._chunks:
            part = VALIDATION if is_held_out(self._plan, self._number, self._rows) else TRAIN
            if chunk.skipped:  # counts as a row, so that a resumed job skips it too
                self._rows += 1
                counts["skipped"] += 1
                first_skipped = first_skipped or chunk.skipped
                continue
            if chunk.note:
                notes.append(chunk.note)
                continue
            text = clean(chunk.text)
            filled = filled or bool(text)
            counts["characters"] += len(text)
            counts["bytes"] += len(text) if text.isascii() else len(text.encode("utf-8"))
            if filled:
                yield SplitChunk(part, text, chunk.ends)
            if chunk.ends:
                self._rows += 1
                counts["documents"] += filled
                filled = False
                # only a job that is read from the beginning of a file makes several shards
                full = counts["bytes"] >= self._plan.shard_bytes
                if full and job.end is None:
                    last = False
                    break
        self.facts = {"rows": self._rows, "last": last, **counts, "first_skipped": first_skipped,
                      "notes": notes}  # fmt: skip
