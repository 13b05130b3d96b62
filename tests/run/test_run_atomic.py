"""Every call of every save, killed and failed; the order of the calls."""

import errno
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scriven.errors import DamagedError, InputError, ResourceError
from scriven.run import atomic, checkpoint, publish, record
from scriven.run.weights import load_tensors

from .faults import calls, child, count, failing, killed_at, leftovers, save, value_of


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "WAITS", (0.0, 0.0, 0.0))


def _publish(folder: Path, value: float) -> None:
    written = b"%d" % int(value)
    files = {"config.json": written, "tokenizer.json": b"[]", "README.md": written}
    publish.publish(folder, files, {"weight": torch.full((5,), value)})


def _published(folder: Path) -> float:
    assert publish.verify_published(folder) == []
    assert publish.read_published(folder, "config.json") in (b"1", b"2", b"3")
    return float(load_tensors(folder / publish.WEIGHTS)["weight"][0])


def _record(folder: Path, value: float) -> None:
    record.write_record(folder, {"name": "r", "value": value})


# How each kind of save is made (the old state, then the new one) and read back.
Save = Callable[[Path, float], object]
Read = Callable[[Path], float]
SAVES: dict[str, tuple[Save, Read]] = {
    "next step": (
        lambda folder, value: save(folder, int(value)),
        lambda folder: value_of(checkpoint.load_newest(folder)),
    ),
    "same step": (
        lambda folder, value: save(folder, 7, value),
        lambda folder: value_of(checkpoint.load_newest(folder)),
    ),
    "publish": (_publish, _published),
    "record": (_record, lambda folder: float(record.read_record(folder)["value"])),
}
ALL = pytest.mark.parametrize(("make", "read"), SAVES.values(), ids=SAVES.keys())


def _fresh(folder: Path, number: object) -> Path:
    made = folder / str(number)
    made.mkdir()
    return made


def _said(action: Callable[[], object], number: int, code: int, always: bool = False) -> str:
    """The message of the ResourceError when the n-th call fails; empty when it was saved."""
    with failing(number, code, always):
        try:
            action()
        except ResourceError as error:
            return str(error)
    return ""


def _calls_of(make: Save, folder: Path) -> int:
    probe = _fresh(folder, "probe")
    make(probe, 1)
    return count(lambda: make(probe, 2))


@ALL
@pytest.mark.parametrize("half", [False, True], ids=["before", "half a write"])
def test_A2_kill_at_every_call_of_a_save_leaves_the_old_or_the_new_state(
    tmp_path: Path, make: Save, read: Read, half: bool
) -> None:
    total = _calls_of(make, tmp_path)
    assert total >= 4
    seen = set()
    for number in range(1, total + 1):
        folder = _fresh(tmp_path, number)
        make(folder, 1)
        killed_at(number, lambda folder=folder: make(folder, 2), half)
        seen.add(read(folder))
        assert read(folder) in (1, 2)
        make(folder, 3)  # goes on as if nothing had been
        assert read(folder) == 3
        if (folder / checkpoint.FOLDER).exists():
            assert leftovers(folder) == []
    assert 1 in seen


@pytest.mark.parametrize("make", [save, _publish], ids=["checkpoint", "publish"])
def test_A2_kill_at_every_call_of_the_first_save_leaves_nothing_or_all_of_it(
    tmp_path: Path, make: Save
) -> None:
    probe = _fresh(tmp_path, "probe")
    total = count(lambda: make(probe, 1))
    for number in range(1, total + 1):
        folder = _fresh(tmp_path, number)
        killed_at(number, lambda folder=folder: make(folder, 1))
        found = checkpoint.load_newest(folder)
        assert found is None or value_of(found) == 1
        if (folder / publish.WEIGHTS).exists():
            assert _published(folder) == 1


def test_A1_A2_random_kills_never_lose_a_reported_save(tmp_path: Path) -> None:
    draw = random.Random(0)
    began = time.monotonic()
    save(tmp_path, 1)
    usual = time.monotonic() - began
    reported = 1
    for _ in range(60):
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


def test_A3_kill_at_every_call_of_a_prune_never_offers_a_half_deleted_one(tmp_path: Path) -> None:
    def fill(folder: Path) -> Path:
        for step in (1, 2, 3, 4):
            save(folder, step)
        return folder

    probe = fill(_fresh(tmp_path, "probe"))
    total = count(lambda: checkpoint.prune(probe, 1, best=2))
    assert checkpoint.steps(probe) == [4, 2]
    assert total > 10
    for number in range(1, total + 1):
        folder = fill(_fresh(tmp_path, number))
        killed_at(number, lambda folder=folder: checkpoint.prune(folder, 1, best=2))
        offered = checkpoint.steps(folder)
        assert {4, 2} <= set(offered)
        for step in offered:
            assert value_of(checkpoint.load(folder, step)) == step
        save(folder, 5)
        assert leftovers(folder) == []


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOSPC])
def test_A3_a_failing_delete_stops_nothing(tmp_path: Path, code: int) -> None:
    for number in range(1, 12):
        folder = _fresh(tmp_path, number)
        for step in (1, 2, 3):
            save(folder, step)
        with failing(number, code, always=True):
            checkpoint.prune(folder, 1)
        for step in checkpoint.steps(folder):
            assert value_of(checkpoint.load(folder, step)) == step
        assert checkpoint.steps(folder)[0] == 3


class Order:
    """The calls of a save with the paths they are about."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.open = os.open

    def record(self, action: Callable[[], object]) -> list[tuple[str, str]]:
        named: dict[int, str] = {}

        def opened(path: object, *rest: object, **more: object) -> int:
            descriptor = self.open(path, *rest, **more)  # type: ignore[arg-type]
            named[descriptor] = str(path)
            return descriptor

        def note(_: int, name: str, arguments: tuple[object, ...]) -> None:
            first = arguments[0]
            self.made.append((name, named[first] if isinstance(first, int) else str(first)))

        os.open = opened
        try:
            with calls(note):
                action()
        finally:
            os.open = self.open
        return self.made


def _assert_ordered(made: list[tuple[str, str]]) -> None:
    """Each rename comes after the fsync of all it moves, and before the fsync of its folder."""
    renames = [at for at, (name, _) in enumerate(made) if name in ("rename", "replace")]
    assert renames
    for at in renames:
        source = made[at][1]
        if ".tmp-" not in source:
            continue  # something already safe is set aside
        before, after = made[:at], made[at + 1 :]
        written = {path for name, path in before if name == "write" and path.startswith(source)}
        for path in written:
            last = max(i for i, call in enumerate(before) if call == ("write", path))
            assert ("fsync", path) in before[last:], f"{path} is renamed before it is on the disk"
        if ("mkdir", source) in before:
            last = max(i for i, (_, path) in enumerate(before) if path.startswith(source + "/"))
            assert ("fsync", source) in before[last:], "the names in the folder are not on the disk"
        assert ("fsync", str(Path(source).parent)) in after, "the rename is not on the disk"


@ALL
def test_A4_order_is_write_sync_rename_sync_folder(tmp_path: Path, make: Save, read: Read) -> None:
    make(tmp_path, 1)
    made = Order().record(lambda: make(tmp_path, 2))
    _assert_ordered(made)
    assert read(tmp_path) == 2


def test_A4_manifest_is_written_last(tmp_path: Path) -> None:
    made = Order().record(lambda: save(tmp_path, 1))
    written = [path for name, path in made if name == "write"]
    assert written[-1].endswith("manifest.json")


def test_A4_planted_bug_a_save_without_sync_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: None)
    with pytest.raises(AssertionError, match="not on the disk"):
        _assert_ordered(Order().record(lambda: save(tmp_path, 1)))


@ALL
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_A5_full_disk_at_every_call_is_named_and_leaves_the_old_state(
    tmp_path: Path, make: Save, read: Read, code: int
) -> None:
    for number in range(1, _calls_of(make, tmp_path) + 1):
        folder = _fresh(tmp_path, number)
        make(folder, 1)
        said = _said(lambda folder=folder: make(folder, 2), number, code)
        assert re.fullmatch("|disk full: .* needs .*, has .*", said)
        assert read(folder) in ((1, 2) if said else (2,))
        # a delete that failed is left for the next save; a write that failed is not
        aside = (".old-", ".tmp-.old-")
        assert [name for name in leftovers(folder) if not name.startswith(aside)] == []
        make(folder, 3)
        assert read(folder) == 3


def test_A5_real_limit_on_file_size(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(ResourceError, match="disk full"):
            save(tmp_path, 2)

    status, text = child(limited)
    assert status == 0, text
    assert value_of(checkpoint.load_newest(tmp_path)) == 1
    assert leftovers(tmp_path) == []


@ALL
@pytest.mark.parametrize("code", [errno.EIO, errno.EINTR, errno.ESTALE])
def test_A7_an_error_that_passes_is_tried_again(
    tmp_path: Path, make: Save, read: Read, code: int
) -> None:
    for number in range(1, _calls_of(make, tmp_path) + 1):
        folder = _fresh(tmp_path, number)
        make(folder, 1)
        with failing(number, code):
            make(folder, 2)
        assert read(folder) == 2


@ALL
def test_A7_A8_an_error_that_stays_is_never_reported_as_saved(
    tmp_path: Path, make: Save, read: Read
) -> None:
    for number in range(1, _calls_of(make, tmp_path) + 1):
        folder = _fresh(tmp_path, number)
        make(folder, 1)
        said = _said(lambda folder=folder: make(folder, 2), number, errno.EIO, always=True)
        assert not said or "cannot be saved" in said
        assert read(folder) in ((1, 2) if said else (2,))


@ALL
def test_A8_a_failed_sync_is_an_error(
    tmp_path: Path, make: Save, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 1)
    asked = []

    def fail(descriptor: int) -> None:
        asked.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ResourceError, match="4 attempts"):
            make(tmp_path, 2)
    assert len(asked) == 4, "each attempt begins with a new file, none repeats a failed sync"
    assert read(tmp_path) == 1


def test_A2_temporary_folders_of_dead_processes_are_ignored_then_removed(tmp_path: Path) -> None:
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


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        atomic.write_file(tmp_path / "file" / "x", b"")
    with pytest.raises(InputError, match="choose another folder"):
        save(tmp_path / "file", 1)
    with pytest.raises(DamagedError):
        load_tensors(tmp_path / "missing")
