"""SIGKILL at any instant: the same command goes on, and ends as if nothing had happened."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from scriven.train.trackers import jsonl
from scriven.train.train_state import TrainState

from .runs import Child, after_each_step, newest, train, whole

STEPS = 150
EVERY = 10
SETTINGS = {"train__save_interval": EVERY, "train__eval_interval": 22, "model__dropout": 0.1}


def go(text: Path, out: Path, slow: float = 0.0) -> None:
    with after_each_step(lambda *_: time.sleep(slow)):
        train(text, out, f"{STEPS}steps", **SETTINGS)


def kill_until_done(text: Path, folder: Path, kills: int) -> int:
    """Kills runs at random instants, and compares each that comes to its end; kills made."""
    go(text, folder / "straight")
    expected = whole(folder / "straight")
    chance = random.Random(0)
    made, round_ = 0, 0
    while made < kills:
        out = folder / f"round-{round_}"
        reached = folder / f"steps-{round_}"
        before = 0
        while made < kills:
            child = Child(lambda out=out, reached=reached: _counted(text, out, reached))
            child.pause(chance.uniform(0, chance.choice([0.1, 0.4, 1.2])))
            child.kill()
            status, said = child.wait()
            if status == 0:
                break
            assert status == -9, said
            made += 1
            after = max(0, newest(out))  # step 0 follows from the seed, and is not saved
            done = int(reached.read_text() or 0) if reached.exists() else 0
            assert after >= before
            assert after >= (done - 1) // EVERY * EVERY, "more than one interval was lost"
            before = after
        go(text, out)  # the same command once more, undisturbed
        assert whole(out) == expected
        shutil.rmtree(out)
        reached.unlink(missing_ok=True)
        round_ += 1
    return made


def _counted(text: Path, out: Path, reached: Path) -> None:
    """A run that writes down each step it has made, as a witness outside the run folder."""
    file = reached.open("w")

    def write(trainer: object, state: TrainState) -> None:
        file.seek(0)
        file.write(str(state.step))
        file.flush()
        time.sleep(0.002)

    with after_each_step(write):
        train(text, out, f"{STEPS}steps", **SETTINGS)


def test_thirty_random_kills_lose_nothing(text: Path, tmp_path: Path) -> None:
    assert kill_until_done(text, tmp_path, 30) >= 30


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_hundred_random_kills_lose_nothing(text: Path, tmp_path: Path) -> None:
    assert kill_until_done(text, tmp_path, 300) >= 300


def test_a_kill_between_the_last_evaluation_and_its_save_writes_it_once(
    text: Path, tmp_path: Path
) -> None:
    go(text, tmp_path / "straight")

    def killed_there() -> None:
        real = jsonl.Tracker.write

        def write(self: jsonl.Tracker, kind: str, **values: object) -> None:
            real(self, kind, **values)
            if kind == "evaluation" and values["step"] == STEPS:
                os.kill(os.getpid(), signal.SIGKILL)

        jsonl.Tracker.write = write  # type: ignore[method-assign]
        go(text, tmp_path / "killed")

    status, said = Child(killed_there).wait()
    assert status == -9, said
    assert newest(tmp_path / "killed") == STEPS
    go(text, tmp_path / "killed")
    assert whole(tmp_path / "killed") == whole(tmp_path / "straight")


def test_a_finished_run_is_cleaned_of_what_a_killed_process_left(
    text: Path, tmp_path: Path
) -> None:
    train(text, tmp_path / "run", "2steps")
    child = Child(lambda: None)
    child.wait()
    left = tmp_path / "run" / f".tmp-manifest.json-{child.process}"
    left.write_text("half")
    train(text, tmp_path / "run", "2steps")
    assert not left.exists()
