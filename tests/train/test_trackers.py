"""Trackers: a file is one, found by its name or path, and is told everything that happens."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.reliability.runs import request, stopping_at, write_text

from scriven.errors import InputError, MissingExtra
from scriven.train import run as train_run
from scriven.train.request import TrainRequest
from scriven.train.run import start_or_resume
from scriven.train.stopping import Interrupted
from scriven.train.trackers.jsonl import Tracker as JsonLines

MINE = """
import json
from pathlib import Path
from scriven.train.trackers.base import BaseTracker

class Tracker(BaseTracker):
    def note(self, name, **values):
        with (Path(__file__).parent / "calls.jsonl").open("a") as file:
            file.write(json.dumps({"name": name, **values}) + "\\n")
    def on_start(self, run):
        self.note("start", folder=str(run.folder), task=run.plan.task)
    def on_resume(self, state):
        self.note("resume", step=state.step)
    def on_step(self, state, report):
        self.note("step", step=state.step, loss=report.train_loss, grad_norm=report.grad_norm)
    def on_eval(self, state, score, is_best):
        self.note("eval", step=state.step, loss=score.loss)
    def on_sample(self, state, text):
        self.note("sample", text=text)
    def on_save(self, state):
        self.note("save", step=state.step)
    def on_note(self, state, text, message):
        self.note("note", text=text)
    def on_end(self, results):
        self.note("end", val_loss=results["val_loss"])
    def close(self):
        self.note("close")
"""


@pytest.fixture
def asked(tmp_path: Path) -> TrainRequest:
    """A run of 12 steps that is watched by a user's own tracker."""
    (tmp_path / "mine.py").write_text(MINE)
    settings = {"train__log_seconds": 0, "train__sample_seconds": 0.0001, "train__eval_interval": 6}
    made = request(write_text(tmp_path), tmp_path / "run", "12steps", **settings)
    trackers = {"train.trackers": f"jsonl, {tmp_path / 'mine.py'}"}
    return dataclasses.replace(made, settings={**made.settings, **trackers})


def calls(asked: TrainRequest) -> list[dict[str, Any]]:
    path = Path(str(asked.out)).parent / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_users_file_is_told_all_that_happens(asked: TrainRequest) -> None:
    result = start_or_resume(asked)
    told = calls(asked)
    names = [call["name"] for call in told]
    assert names[:2] == ["start", "step"], "what is before the first step follows from the seed"
    assert names[-2:] == ["end", "close"]
    assert told[0] == {"name": "start", "folder": str(result.folder), "task": "language"}
    steps = [call for call in told if call["name"] == "step"]
    assert [call["step"] for call in steps] == list(range(1, 13))
    assert all(call["loss"] > 0 and call["grad_norm"] > 0 for call in steps)
    assert [call["step"] for call in told if call["name"] == "eval"] == [6, 12]
    assert "sample" in names
    assert told[-2]["val_loss"] == result.results["val_loss"]


def test_a_resumed_run_is_told_where_it_resumes(asked: TrainRequest) -> None:
    with stopping_at(4), pytest.raises(Interrupted):
        start_or_resume(asked)
    assert calls(asked)[-1]["name"] == "close"
    assert "end" not in [call["name"] for call in calls(asked)]
    start_or_resume(asked)
    again = [call["name"] for call in calls(asked)].index("resume")
    assert calls(asked)[again] == {"name": "resume", "step": 5}
    assert calls(asked)[again + 1] == {"name": "note", "text": "resumed"}


def test_a_tracker_of_the_run_folder_is_not_run(asked: TrainRequest) -> None:
    """A file is code, so its name comes from the command line only."""
    with stopping_at(4), pytest.raises(Interrupted):
        start_or_resume(asked)
    before = len(calls(asked))
    start_or_resume(TrainRequest(resume=asked.out, quiet=True))
    assert len(calls(asked)) == before


def test_metrics_are_written_once_whoever_else_watches(asked: TrainRequest) -> None:
    start_or_resume(asked)
    lines = (Path(str(asked.out)) / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, 13))


def test_an_unknown_tracker_is_refused_before_anything_is_written(asked: TrainRequest) -> None:
    settings = {**asked.settings, "train.trackers": "tensorbord"}
    with pytest.raises(InputError, match="did you mean tensorboard"):
        start_or_resume(dataclasses.replace(asked, settings=settings))
    assert not Path(str(asked.out)).exists()


def test_a_missing_package_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    monkeypatch.delitem(sys.modules, "scriven.train.trackers.tensorboard", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'scriven\[tensorboard\]'"):
        train_run.load_trackers("tensorboard", quiet=True)


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    tracker = JsonLines()
    tracker.path = tmp_path / "metrics.jsonl"
    tracker.write("step", loss=float("nan"), lr=0.1)
    assert json.loads(tracker.path.read_text()) == {"event": "step", "loss": None, "lr": 0.1}
