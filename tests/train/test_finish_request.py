"""A training that is asked to finish early lets its learning rate fall, and ends as always."""

import dataclasses
from pathlib import Path

import pytest
from tests.reliability.runs import request, write_text

from scriven.cli import run as command
from scriven.errors import InputError, SettingError
from scriven.runs.folder import lock_run
from scriven.train import stopping
from scriven.train.run import start_or_resume
from scriven.train.trackers.jsonl import read_events

ASKS = """
from scriven.train.stopping import request_finish
from scriven.train.trackers.base import BaseTracker

class Tracker(BaseTracker):
    every_step = True
    def on_start(self, run):
        self.folder = run.folder
    def on_step(self, state, report):
        if state.step == 30:
            request_finish(self.folder, "1s")
"""


@pytest.mark.parametrize("budget", ["100000steps", "2h"])
def test_the_run_ends_soon_with_its_learning_rate_at_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    monkeypatch.setattr(stopping, "LOOK_SECONDS", 0.0)
    (tmp_path / "asks.py").write_text(ASKS)
    made = request(write_text(tmp_path), tmp_path / "run", budget, train__log_seconds=0)
    settings = {**made.settings, "train.trackers": str(tmp_path / "asks.py")}
    results = start_or_resume(dataclasses.replace(made, settings=settings)).results
    assert results["finished"] and 31 < results["steps"] < 5000
    events = read_events(tmp_path / "run" / "metrics.jsonl")
    (at,) = (n for n, each in enumerate(events) if "asked to finish" in each.get("text", ""))
    rates = [each["lr"] for each in events if each["event"] == "step"]
    after = [each["lr"] for each in events[at:] if each["event"] == "step"]
    assert after == sorted(after, reverse=True) and len(after) > 5
    assert after[-1] < 0.1 * max(rates)
    assert not (tmp_path / "run" / stopping.FILE).exists()


def test_who_cannot_be_asked_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    start_or_resume(request(write_text(tmp_path), folder, "2steps"))
    assert command(["finish", str(folder)]) == 2
    assert capsys.readouterr().err.count("is not being trained on this computer") == 1
    with lock_run(folder):
        with pytest.raises(SettingError, match="a time, such as"):
            stopping.request_finish(folder, "100steps")
        assert stopping.request_finish(folder, "2m") == 120
    with pytest.raises(InputError, match="not being trained"):
        stopping.request_finish(folder, "2m")
