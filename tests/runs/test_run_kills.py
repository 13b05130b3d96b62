"""A save or a prune that is killed at any of its calls, or at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scriven.runs import checkpoint, huggingface
from scriven.runs.folder import create_run_dir, lock_run
from scriven.runs.metadata import write_metadata

from .faults import calls, calls_made, killed_at, leftovers, save, value_of
from .saves import ALL, Read, Save, calls_of, fresh, publish_one, read_published_one


@ALL
@pytest.mark.parametrize("half", [False, True], ids=["before", "half a write"])
def test_kill_at_every_call_of_a_save_leaves_the_old_or_the_new_state(
    tmp_path: Path, make: Save, read: Read, half: bool
) -> None:
    made = calls_of(make, tmp_path)
    assert len(made) >= 4
    seen = set()
    for number, call in enumerate(made, 1):
        if half and call != "write":
            continue  # as before it
        folder = fresh(tmp_path, number)
        make(folder, 1)
        killed_at(number, lambda folder=folder: make(folder, 2), half)
        seen.add(read(folder))
        assert read(folder) in (1, 2)
        make(folder, 3)  # goes on as if nothing had been
        assert read(folder) == 3
        if (folder / checkpoint.FOLDER).exists():
            assert leftovers(folder) == []
    assert 1 in seen


@pytest.mark.parametrize("make", [save, publish_one], ids=["checkpoint", "publish"])
def test_kill_at_every_call_of_the_first_save_leaves_nothing_or_all_of_it(
    tmp_path: Path, make: Save
) -> None:
    probe = fresh(tmp_path, "probe")
    total = len(calls_made(lambda: make(probe, 1)))
    for number in range(1, total + 1):
        folder = fresh(tmp_path, number)
        killed_at(number, lambda folder=folder: make(folder, 1))
        found = checkpoint.load_newest(folder)
        assert found is None or value_of(found) == 1
        if (folder / huggingface.WEIGHTS).exists():
            assert read_published_one(folder) == 1


def test_random_kills_never_lose_a_reported_save(tmp_path: Path) -> None:
    draw = random.Random(0)
    began = time.monotonic()
    save(tmp_path, 1)
    usual = time.monotonic() - began
    reported = 1
    kills = 0
    while kills < 40 or (reported <= 20 and kills < 600):  # a busy machine needs more of them
        kills += 1
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                step = reported
                os.write(writing, step.to_bytes(8, "big"))
                while True:
                    step += 1
                    save(tmp_path, step)
                    os.write(writing, step.to_bytes(8, "big"))
                    checkpoint.prune(tmp_path, 2)
            finally:
                os._exit(1)
        os.close(writing)
        said = os.read(reading, 8)  # it runs
        time.sleep(draw.uniform(0, 4 * usual))
        os.kill(process, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
        with os.fdopen(reading, "rb") as pipe:
            said += pipe.read()
        reported = max(reported, int.from_bytes(said[-8:], "big"))
        found = checkpoint.load_newest(tmp_path)
        assert found is not None
        assert found.warnings == []
        assert value_of(found) == found.step >= reported
        reported = found.step
    assert reported > 20


def test_kill_at_every_call_of_a_prune_never_offers_a_half_deleted_one(tmp_path: Path) -> None:
    def fill(folder: Path) -> Path:
        for step in (1, 2, 3, 4):
            save(folder, step)
        return folder

    probe = fill(fresh(tmp_path, "probe"))
    total = len(calls_made(lambda: checkpoint.prune(probe, 1, best=2)))
    assert checkpoint.steps(probe) == [4, 2]
    assert total > 10
    for number in range(1, total + 1):
        folder = fill(fresh(tmp_path, number))
        killed_at(number, lambda folder=folder: checkpoint.prune(folder, 1, best=2))
        offered = checkpoint.steps(folder)
        assert {4, 2} <= set(offered)
        for step in offered:
            assert value_of(checkpoint.load_step(folder, step)) == step
        save(folder, 5)
        assert leftovers(folder) == []


def test_temporary_folders_of_dead_processes_are_ignored_then_removed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    parent = tmp_path / checkpoint.FOLDER
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = os.getppid()
    for process in (dead.pid, os.getpid(), living):
        (parent / f".tmp-step-9-{process}").mkdir()
    assert checkpoint.steps(tmp_path) == [1]
    save(tmp_path, 2)
    assert sorted(path.name for path in parent.iterdir()) == [
        f".tmp-step-9-{living}",
        "step-1",
        "step-2",
    ]


def test_a_save_that_is_interrupted_leaves_no_temporary_file(tmp_path: Path) -> None:
    def interrupt(number: int, *_: object) -> None:
        if number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), calls(interrupt):
        save(tmp_path, 1)
    assert leftovers(tmp_path) == []
    assert checkpoint.load_newest(tmp_path) is None


def test_a_kill_at_every_call_of_a_new_folder_never_makes_it_somebody_elses(tmp_path: Path) -> None:
    def begin(out: Path) -> None:
        made = create_run_dir(out)
        with lock_run(made):
            write_metadata(made, {"name": "run"})

    begin(tmp_path / "first")  # some calls are made once per process
    for number in range(1, len(calls_made(lambda: begin(tmp_path / "straight"))) + 1):
        out = tmp_path / str(number)
        killed_at(number, lambda out=out: begin(out))
        begin(out)
        assert sorted(os.listdir(out)) == [".scriven.lock", "scriven.json"]
