"""One process per run folder, whatever becomes of it."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from scriven.errors import BusyError, InputError, ResourceError
from scriven.runs import folder as run_folder
from scriven.runs.folder import OWNER, lock_run

from .faults import as_nobody


def _hold(folder: Path) -> tuple[int, int]:
    """Starts a process that holds a folder: its number, and a pipe that ends when it does."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            with lock_run(folder):
                os.write(writing, b"x")
                signal.pause()
        finally:
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    return process, reading


def test_the_second_run_is_refused_at_once_and_a_dead_one_is_taken_over(tmp_path: Path) -> None:
    process, pipe = _hold(tmp_path)
    try:
        began = time.monotonic()
        with pytest.raises(BusyError) as error, lock_run(tmp_path):
            pass
        assert time.monotonic() - began < 1
        assert f"process {process} on {os.uname().nodename}" in str(error.value)
        assert "--out" in str(error.value)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(pipe)
    assert json.loads((tmp_path / OWNER).read_text())["pid"] == process
    with lock_run(tmp_path):
        assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / OWNER).exists()


def test_a_child_that_outlives_its_run_does_not_keep_the_folder(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            with lock_run(tmp_path):
                worker = os.fork()
                if worker == 0:
                    time.sleep(20)
                    os._exit(0)
                os.write(writing, worker.to_bytes(8, "big"))
                signal.pause()
        finally:
            os._exit(0)
    worker = int.from_bytes(os.read(reading, 8), "big")
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        time.sleep(0.1)
        with lock_run(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_the_same_process_cannot_run_twice_in_one_folder(tmp_path: Path) -> None:
    busy = pytest.raises(BusyError, match=f"process {os.getpid()}")
    with lock_run(tmp_path), busy, lock_run(tmp_path):
        pass
    with lock_run(tmp_path):
        pass


def test_a_lock_whose_owner_cannot_be_written_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise ResourceError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_file", full)
        with pytest.raises(ResourceError), lock_run(tmp_path):
            pass
    with lock_run(tmp_path):
        pass


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": 1e999, "host": 1}'])
def test_an_unreadable_owner_is_another_process(tmp_path: Path, text: bytes) -> None:
    process, pipe = _hold(tmp_path)
    try:
        (tmp_path / OWNER).write_bytes(text)
        with pytest.raises(BusyError, match="in use by another process"), lock_run(tmp_path):
            pass
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(pipe)


def test_a_lock_that_cannot_be_made_is_refused(open_folder: Path) -> None:
    (open_folder / "closed").mkdir(mode=0o555)

    def attempt() -> None:
        with pytest.raises(InputError), lock_run(open_folder / "closed"):
            pass

    as_nobody(attempt)
