"""Faults for tests: a forked child, and a kill or an error at the n-th call that changes a disk.

Calls through `os` and through `io` (`open`, `Path.open`, `Path.write_bytes`) are both seen.
"""

import builtins
import contextlib
import io
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from scriven.runs import checkpoint

NOBODY = 65534
CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


def child(action: Callable[[], None]) -> tuple[int, str]:
    """Runs `action` in a forked process: (exit status, or minus the signal; traceback)."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[:60_000])
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text


def as_nobody(action: Callable[[], None]) -> None:
    """Runs in a child that has no special rights."""

    def run() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        action()

    status, text = child(run)
    assert status == 0, text


PATHS: dict[int, str] = {}
"""Descriptor -> path of what a block of `calls` has opened, for reading too."""


class _Watched:
    """A file of `io` whose writes are seen."""

    def __init__(self, file: Any, note: Callable[..., None]) -> None:
        self.file, self.note = file, note

    def write(self, data: Any) -> int:
        self.note("write", self.file.fileno(), data)
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "_Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@contextlib.contextmanager
def calls(before: Callable[[int, str, tuple[object, ...]], None]) -> Iterator[list[str]]:
    """Counts the disk calls of a block; `before(number, name, arguments)` may kill or raise."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}
    real_open = io.open
    PATHS.clear()

    def note(name: str, *arguments: object) -> None:
        made.append(name)
        before(len(made), name, arguments)

    def wrap(name: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            # opening a file for reading changes nothing
            if name != "open" or int(arguments[1]) & os.O_CREAT:  # type: ignore[call-overload]
                note(name, *arguments)
            result = real[name](*arguments, **named)
            if name == "open":
                PATHS[result] = str(arguments[0])
            return result

        return call

    def opened(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if changes := bool(set(mode) & set("wax+")):
            note("open", path, mode)
        file = real_open(path, mode, *rest, **named)
        PATHS[file.fileno()] = str(path)
        return _Watched(file, note) if changes else file

    for name in CALLS:
        setattr(os, name, wrap(name))
    io.open = builtins.open = opened
    try:
        yield made
    finally:
        io.open = builtins.open = real_open
        for name, function in real.items():
            setattr(os, name, function)


def calls_made(action: Callable[[], object]) -> list[str]:
    """The disk calls of an action, in order."""
    with calls(lambda *_: None) as made:
        action()
    return made


def killed_at(number: int, action: Callable[[], object], half: bool = False) -> None:
    """Runs `action` in a child that is killed before its n-th disk call; `half`: in a write."""
    write = os.write

    def kill(now: int, name: str, arguments: tuple[object, ...]) -> None:
        if now == number:
            if half and name == "write":
                data = memoryview(arguments[1])  # type: ignore[arg-type]
                write(int(arguments[0]), data[: len(data) // 2])  # type: ignore[call-overload]
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        with calls(kill):
            action()

    status, text = child(run)
    assert status == -signal.SIGKILL, text


@contextlib.contextmanager
def failing(number: int, code: int, always: bool = False) -> Iterator[None]:
    """The n-th disk call fails with this errno; `always`: and every later one of its kind."""
    kind: list[str] = []

    def fail(now: int, name: str, _: tuple[object, ...]) -> None:
        if now == number:
            kind.append(name)
        if now == number or (always and name in kind):
            raise OSError(code, os.strerror(code))

    with calls(fail):
        yield


def tensors(value: float) -> dict[str, dict[str, torch.Tensor]]:
    """A small state whose every number tells which save it is from."""
    return {
        "model": {"weight": torch.full((4, 8), value), "bias": torch.full((3,), value).bfloat16()},
        "optimizer": {"momentum": torch.full((4, 8), -value)},
        "random": {"cpu": torch.full((16,), int(value) % 256, dtype=torch.uint8)},
    }


def save(folder: Path, step: int, value: float | None = None) -> Path:
    """Saves a small checkpoint."""
    value = float(step if value is None else value)
    return checkpoint.save(folder, step, tensors(value), {"value": value})


def value_of(found: checkpoint.Checkpoint | None) -> float:
    """Which save a checkpoint is from; fails when its parts are from different ones."""
    assert found is not None
    value = float(found.state["value"])
    wanted = tensors(value)
    assert found.tensors.keys() == wanted.keys()
    for group, named in wanted.items():
        assert found.tensors[group].keys() == named.keys()
        for name, tensor in named.items():
            assert torch.equal(found.tensors[group][name], tensor), (group, name)
    return value


def leftovers(folder: Path) -> list[str]:
    """Names of temporary files and folders, anywhere below."""
    return [path.name for path in folder.rglob(".*") if path.name.startswith((".tmp-", ".old-"))]
