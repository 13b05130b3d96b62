"""Ctrl-C, SIGTERM, a closed terminal, a reader that left: saved, said, and gone on with."""

import contextlib
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriven.runs import checkpoint
from scriven.train import build_model, checkpointer, datasets, pretrain, trainer
from scriven.train import run as train_run

from .runs import Child, after_each_step, arguments, command, newest, spawn, train, whole

SIGNALS = {"INT": 130, "TERM": 143, "HUP": 129}


def signal_once(number: int, times: int = 1) -> Callable[..., None]:
    """Sends this process a signal when first called."""
    left = iter([True])

    def send(*_: object, **__: object) -> None:
        if next(left, False):
            for _time in range(times):
                os.kill(os.getpid(), number)

    return send


@contextlib.contextmanager
def before(owner: Any, name: str, action: Callable[..., None]) -> Iterator[None]:
    """Calls `action` each time before owner.name is called."""
    real = getattr(owner, name)

    def call(*positional: Any, **named: Any) -> Any:
        action()
        return real(*positional, **named)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, real)


@pytest.mark.parametrize(("name", "code"), SIGNALS.items())
def test_the_command_saves_and_prints_the_command_that_continues(
    text: Path, tmp_path: Path, name: str, code: int
) -> None:
    out = tmp_path / "a run"
    process = spawn(*arguments(text, out, budget="100000steps"))
    assert process.stderr is not None
    said = ""
    while " step " not in said and (line := process.stderr.readline()):
        said += line
    process.send_signal(getattr(signal, f"SIG{name}"))
    _, rest = process.communicate(timeout=240)
    assert process.returncode == code, said + rest
    assert "Traceback" not in rest
    found = re.search(r"scriven: interrupted; saved at step (\d+); go on with: (.+)", rest)
    assert found, rest
    assert newest(out) == int(found[1]) > 0
    again = shlex.split(found[2])
    assert again[0] == "scriven"
    if name == "INT":
        more = str(int(found[1]) + 5)
        status, _, err = command(*again[1:], f"--budget={more}steps")
        assert status == 0, err
        assert checkpoint.steps(out)[0] == int(more)


PHASES: dict[str, tuple[Any, str, bool]] = {
    # phase: (owner, function, whether there is a state to save)
    "preparation": (pretrain, "load_dataset", False),
    "fresh folder": (train_run, "write_metadata", False),
    "building": (build_model, "build_task", False),
    "step": (trainer.Trainer, "next_batch", True),
    "baseline": (datasets, "ngram_baseline", True),
    "evaluation": (trainer, "evaluate_loss", True),
    "sampling": (trainer.Trainer, "sample", True),
    "save": (checkpoint, "build_manifest", True),
    "publishing": (checkpointer, "save_pretrained", True),
    "token_nll": (datasets, "token_nll", True),
    "results": (datasets, "write_file", True),
}


_straight: dict[str, str] = {}
"""What the run is like that nobody stopped."""

TWICE = ("step", "save", "publishing")
"""Phases in which every run of the tests sends a second signal after the first."""


@pytest.mark.parametrize(
    ("phase", "times"),
    [
        *((phase, 1) for phase in PHASES),
        *(
            pytest.param(phase, 2, marks=[] if phase in TWICE else pytest.mark.slow)
            for phase in PHASES
        ),
    ],
)
def test_a_signal_in_any_phase_leaves_a_run_that_goes_on(
    text: Path, tmp_path: Path, phase: str, times: int
) -> None:
    owner, name, saved = PHASES[phase]
    out = tmp_path / "run"

    def go(folder: Path) -> None:
        train(text, folder, "12steps", train__save_interval=4, train__eval_interval=5,
              train__sample_seconds=0.0001)  # fmt: skip

    number = signal.SIGTERM if times == 1 else signal.SIGINT

    def action() -> None:
        with before(owner, name, signal_once(number, times)):
            go(out)

    status, said = Child(action).wait()
    assert status == 128 + number, said
    if saved and phase != "save":
        assert f"go on with: scriven train --resume {out}" in said
        # a second signal before the first save leaves nothing, and step 0 follows from the seed
        assert newest(out) >= 0 or times == 2
    go(out)
    if not _straight:
        go(tmp_path / "straight")
        _straight.update(whole(tmp_path / "straight"))
    assert whole(out) == _straight


def test_terms_at_random_instants(text: Path, tmp_path: Path) -> None:
    import random

    chance, out = random.Random(1), tmp_path / "run"
    last = -1
    for number in range(12):
        with after_each_step(lambda *_: time.sleep(0.002)):
            child = Child(lambda: train(text, out, "100000steps", train__save_seconds=1000))
        time.sleep(0.15 + chance.uniform(0, 0.3))
        child.kill(signal.SIGTERM)
        status, said = child.wait()
        assert status in (143, -15), said
        if status == 143 and "saved at step" in said:
            step = int(said.split("saved at step ")[1].split(";")[0])
            assert newest(out) == step, number
            assert step >= last
            last = step
    assert last > 0


def test_what_was_ignored_stays_ignored(text: Path, tmp_path: Path) -> None:
    """nohup scriven train ... outlives its terminal."""

    def action() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with before(trainer.Trainer, "next_batch", signal_once(signal.SIGHUP)):
            train(text, tmp_path / "run")

    assert Child(action).wait() == (0, "")


@pytest.mark.parametrize(
    ("shell", "codes"),
    [
        ("{} >&- 2>&- <&-", {0}),
        ("{} | true; exit ${{PIPESTATUS[0]}}", {0, 141}),
        ("{} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}", {0, 141}),
        # one stream of those above, alone
        pytest.param("{} >&-", {0}, marks=pytest.mark.slow),
        pytest.param("{} 2>&-", {0}, marks=pytest.mark.slow),
        pytest.param("{} 2> >(head -1 >&2)", {0}, marks=pytest.mark.slow),
    ],
)
def test_closed_streams_cost_neither_the_run_nor_a_traceback(
    text: Path, tmp_path: Path, shell: str, codes: set[int]
) -> None:
    process = spawn(*arguments(text, tmp_path / "run"), shell=shell)
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in out + err
    assert "Exception ignored" not in out + err
    assert process.returncode in codes, out + err
    assert checkpoint.steps(tmp_path / "run")[0] == 40


def test_generate_into_head_has_no_traceback(text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "run", "2steps")
    process = spawn("generate", str(tmp_path / "run"), "It\n", "--max-new-tokens=500",
                    shell="{} | head -1; exit ${{PIPESTATUS[0]}}")  # fmt: skip
    out, err = process.communicate(timeout=240)
    assert out == "It\n"
    assert err == ""
    assert process.returncode in (0, 141)
