"""Network file systems: without locks, or slow to save."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest

from scriven import prepare
from scriven.errors import BusyError
from scriven.files import TOKEN, file_lock
from scriven.runs import checkpoint
from scriven.runs.folder import LOCK, OWNER, create_run_dir, lock_run

from .faults import save, value_of

fcntl = pytest.importorskip("fcntl", reason="the system has other locks")


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=os.strerror)
def lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def hold(folder: Path) -> int:
    """A process that holds a run folder."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            with lock_run(folder):
                os.write(writing, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read(1) == b"x"
    return process


@pytest.mark.usefixtures("lockless")
def test_a_token_file_is_the_lock_where_there_is_none(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        assert (tmp_path / (LOCK + TOKEN)).exists()
        busy = pytest.raises(BusyError, match=f"in use by process {process} on ")
        with busy, lock_run(tmp_path):
            pass
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert create_run_dir(tmp_path) == tmp_path, "what a dead process left is no other content"
    with lock_run(tmp_path):
        assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / (LOCK + TOKEN)).exists()


@pytest.mark.usefixtures("lockless")
def test_texts_are_prepared_without_locks(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("It was a dark and stormy night. " * 50)
    prepare(tmp_path / "book.txt", out=tmp_path / "made", quiet=True)
    assert (tmp_path / "made" / "manifest.json").exists()
    with file_lock(tmp_path / "made" / ".lock"), pytest.raises(BusyError):
        prepare(tmp_path / "book.txt", out=tmp_path / "made", quiet=True)


def test_other_errors_of_a_lock_are_no_reason_for_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="broken"), file_lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / ("lock" + TOKEN)).exists()


def test_a_slow_disk_costs_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, slow = os.fsync, [0]

    def wait(descriptor: int) -> None:
        slow[0] += 1
        time.sleep(0.02)
        fsync(descriptor)

    def saved(folder: Path) -> list[dict[str, bytes]]:
        for step in range(1, 5):
            save(folder, step)
            checkpoint.prune(folder, 2)
        places = sorted((folder / checkpoint.FOLDER).iterdir())
        return [{each.name: each.read_bytes() for each in place.iterdir()} for place in places]

    expected = saved(tmp_path / "fast")
    monkeypatch.setattr(os, "fsync", wait)
    assert saved(tmp_path / "slow") == expected
    assert slow[0] > 20
    assert value_of(checkpoint.load_newest(tmp_path / "slow")) == 4
