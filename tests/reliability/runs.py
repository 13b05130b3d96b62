"""Tiny runs for tests of what a run withstands: in this process, in a fork, or as a command."""

import contextlib
import hashlib
import io
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from scriven.cli import run as run_command
from scriven.data.batch import Batch
from scriven.errors import InputError
from scriven.runs import checkpoint
from scriven.train.request import TrainRequest
from scriven.train.run import TrainResult, start_or_resume
from scriven.train.stopping import Interrupted
from scriven.train.train_state import TrainState
from scriven.train.trainer import Trainer

torch.set_num_threads(1)  # a fork does not take OpenMP's threads along

SHAPE = {"model.layers": 1, "model.heads": 2, "model.d_model": 32, "model.context_length": 16}
SMALL: dict[str, object] = {
    **SHAPE,
    "runtime.dtype": "float32",
    "runtime.threads": 1,
    "train.batch_size": 4,
    "train.log_seconds": 0.2,
    "train.sample_seconds": 0,
}
STORY = "the rain fell and no one came to see what it had done or where she went with him"


def write_text(folder: Path, words: int = 900) -> Path:
    """A text of a few kB that is not the same sentence again and again."""
    path, story = folder / "book.txt", STORY.split()
    path.write_text(" ".join(story[(i * i + i // 7) % len(story)] for i in range(words)) + ".\n")
    return path


def request(
    text: Path, out: Path, budget: str | None = "40steps", **settings: object
) -> TrainRequest:
    """A quiet tiny run; settings are named with a double underscore for the dot."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return TrainRequest(
        [str(text)], budget=budget, out=str(out), quiet=True, settings={**SMALL, **named}
    )


def train(text: Path, out: Path, budget: str | None = "40steps", **settings: object) -> TrainResult:
    """Trains in this process."""
    return start_or_resume(request(text, out, budget, **settings))


def arguments(text: Path, out: Path, *more: str, budget: str = "40steps") -> list[str]:
    """The same run as a command line."""
    settings = [f"--{name}={value}" for name, value in SMALL.items()]
    return ["train", str(text), f"--out={out}", f"--budget={budget}", *settings, *more]


def command(*parts: str) -> tuple[int, str, str]:
    """A command in this process: (exit code, standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([*parts])
    return code, out.getvalue(), err.getvalue()


def refused(*parts: str, code: int = 2) -> str:
    """The one line of a command that must refuse."""
    found, out, err = command(*parts)
    assert found == code, (found, err)
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("scriven: "), err
    return err


def hear_signals() -> None:
    """What a terminal gives a command: signals at their defaults, also where tests ignore them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def spawn(*parts: str, shell: str | None = None, **named: Any) -> "subprocess.Popen[str]":
    """`scriven` in a process of its own; `shell` is a line with {} in the place of the command."""
    line: Any = [sys.executable, "-m", "scriven", *parts]
    if shell is not None:
        line = ["bash", "-c", shell.format(shlex.join(line))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        line, text=True, env=environment, preexec_fn=hear_signals, **{**pipes, **named}
    )


class Child:
    """A fork that runs something of this process, which has torch loaded already."""

    def __init__(self, action: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            status = 70
            try:
                os.close(reading)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
                null = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(null, stream)
                action()
                status = 0
            except Interrupted as stopped:
                os.write(writing, str(stopped).encode())
                status = stopped.exit_code
            except BaseException:
                os.write(writing, traceback.format_exc().encode()[:60_000])
            finally:
                os._exit(status)
        os.close(writing)
        self.pipe = os.fdopen(reading, "rb")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        os.kill(self.process, number)

    def pause(self, seconds: float) -> None:
        """Waits so long, or until it has ended."""
        select.select([self.pipe], [], [], seconds)

    def wait(self) -> tuple[int, str]:
        """(exit status or minus the signal, what it said at its end)."""
        with self.pipe:
            text = self.pipe.read().decode()
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1]), text


def digest(folder: Path, step: int | None = None) -> dict[str, str]:
    """SHA-256 of every tensor file of a checkpoint, the newest by default, and of its progress."""
    steps = checkpoint.steps(folder)
    if not steps:
        raise InputError("no checkpoint")
    place = folder / "checkpoints" / f"step-{steps[0] if step is None else step}"
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.glob("*.safetensors")
    }
    progress = json.loads((place / "state.json").read_text())["progress"]
    timeless = {
        name: value
        for name, value in progress.items()
        if name not in ("seconds", "last_eval_seconds")
    }
    return {**found, "progress": json.dumps(timeless, sort_keys=True)}


def whole(folder: Path) -> dict[str, str]:
    """Everything that must not depend on interruptions."""
    weights = folder / "model.safetensors"
    if not weights.exists():  # adapters alone
        weights = folder / "adapter" / "adapter_model.safetensors"
    published = weights.read_bytes()
    looks = [
        (event["step"], event["loss"], event["best"]) for event in events(folder, "evaluation")
    ]
    return {
        **digest(folder),
        "published": hashlib.sha256(published).hexdigest(),
        "evaluations": repr(looks),
    }


@contextlib.contextmanager
def stopping_at(*steps: int) -> Iterator[None]:
    """A SIGTERM in the middle of each of these steps, once each."""
    left = set(steps)
    real = Trainer.next_batch

    def next_batch(self: Trainer, state: TrainState) -> Batch:
        if state.step in left:
            left.discard(state.step)
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, state)

    Trainer.next_batch = next_batch  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.next_batch = real  # type: ignore[method-assign]


@contextlib.contextmanager
def after_each_step(action: Callable[[Trainer, TrainState], object]) -> Iterator[None]:
    """Does something after every step."""
    real = Trainer.report

    def report(self: Trainer, state: TrainState, *more: Any) -> None:
        real(self, state, *more)
        action(self, state)

    Trainer.report = report  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.report = real  # type: ignore[method-assign]


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The events of one kind in the log."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def newest(folder: Path) -> int:
    """The step of the newest whole checkpoint, -1 without one."""
    found = checkpoint.load_newest(folder)
    return -1 if found is None else found.step
