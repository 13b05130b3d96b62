"""SIGKILL at any instant of `scriven prepare`: the same command goes on, and ends with the
folder of an undisturbed one, byte by byte."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STORY = ["the", "rain", "fell", "and", "no", "one", "came", "to", "see", "where", "she", "went"]

CHILD = """
import sys, time
from pathlib import Path
from scriven.data.prepare import run_prepare
from scriven.data.prepare_plan import PrepareArgs
from scriven.settings import TokenizerSettings
out, processes, piece, *sources = sys.argv[1:]
run_prepare(PrepareArgs(sources, Path(out), tokenizer=TokenizerSettings("bpe", 300),
                    weights="a=0.6,b=0.4", processes=int(processes), shard_bytes=int(piece)))
"""


def write_sources(folder: Path, documents: int) -> list[str]:
    """Rows that can be read from anywhere, and a file that can be read from its beginning only."""
    folder.mkdir()
    for name in ("a.jsonl", "b.csv"):
        lines = [
            " ".join(STORY[(i * i + number) % len(STORY)] for i in range(40 + number % 50))
            for number in range(documents)
        ]
        if name == "a.jsonl":
            lines = [json.dumps({"text": line}) for line in lines]
        (folder / name).write_text("\n".join(["text", *lines][name == "a.jsonl" :]) + "\n")
    return [str(folder / "a.jsonl"), str(folder / "b.csv")]


def start(out: Path, sources: list[str], processes: int, piece: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", CHILD, str(out), str(processes), str(piece), *sources]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(out: Path, sources: list[str], processes: int, piece: int) -> None:
    assert start(out, sources, processes, piece).wait() == 0


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def made(out: Path) -> int:
    """Pieces that are there."""
    try:
        return sum(not name.startswith(".") for name in os.listdir(out / "shards"))
    except FileNotFoundError:
        return 0


def kill_until_done(folder: Path, documents: int, piece: int, kills: int) -> None:
    sources = write_sources(folder / "texts", documents)
    straight = folder / "straight"
    finish(straight, sources, 1, piece)
    expected, total = digest(straight), made(straight)
    assert total > kills, "too few pieces to be killed between"
    chance = random.Random(kills)
    out, done = folder / "killed", 0
    for number in range(kills):
        child = start(out, sources, 1 + number % 2, piece)
        goal = done + chance.randrange(0, max(1, (total - done) // (kills - number)) + 1)
        while child.poll() is None and made(out) < min(goal, total - 1):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        child.kill()
        child.wait()
        assert made(out) >= done, "a finished piece was lost"
        done = made(out)
    finish(out, sources, 2, piece)
    assert digest(out) == expected


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    kill_until_done(tmp_path, 400, 6_000, 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_of_a_larger_corpus_lose_and_double_nothing(tmp_path: Path) -> None:
    kill_until_done(tmp_path, 40_000, 200_000, 10)


def test_a_folder_that_lost_a_byte_is_noticed_by_this_comparison(tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "texts", 60)
    finish(tmp_path / "one", sources, 1, 6_000)
    before = digest(tmp_path / "one")
    shard = next((tmp_path / "one" / "shards").iterdir()) / "train.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\1\1")
    assert digest(tmp_path / "one") != before


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "texts", 20_000)
    child = start(tmp_path / "out", sources, 2, 50_000)
    while made(tmp_path / "out") < 2:
        assert child.poll() is None
        time.sleep(0.002)
    processes = _children(child.pid)  # the workers, and what multiprocessing itself starts
    assert sum("spawn_main" in _command(process) for process in processes) == 2
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    until = time.monotonic() + 10
    while any(_runs(process) for process in processes):
        assert time.monotonic() < until, "a process goes on alone"
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found
