"""What a run says on a terminal: a bar that fits, on standard error alone."""

import io
import re
from typing import cast

import pytest

from scriven.train.trackers import console
from scriven.train.trackers.base import StepReport
from scriven.train.trackers.console import progress_line, short_progress_line
from scriven.train.train_state import Run, TrainState

REPORT = StepReport(130.2, 820, 2000, 70.0, 24_100, 1.557, 1.690, 0.409, 0.374, val_step=800)
RUN = cast(Run, None)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def shown(columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    tracker = console.Tracker(stream=stream)
    tracker.on_start(RUN)
    tracker.on_step(TrainState(), REPORT)
    assert tracker.bar is not None
    tracker.bar.refresh()
    tracker.on_message("a sentence with [brackets]")
    tracker.close()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_the_line_of_the_contract() -> None:
    assert progress_line(REPORT) == (
        "T+ 0:02:10 · step 820/2000 · train loss 1.557 · val loss 1.690 · train acc 0.409 · "
        "val acc 0.374 · 24.1k tok/s · left 0:01:10 · val of step 800"
    )


@pytest.mark.parametrize(
    ("columns", "wanted"), [(80, short_progress_line(REPORT)), (160, progress_line(REPORT))]
)
def test_the_bar_fits_the_terminal(
    columns: int, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(columns, monkeypatch)
    assert wanted in text
    assert "a sentence with [brackets]" in text


def test_nothing_of_the_bar_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(80, monkeypatch)
    assert capsys.readouterr().out == ""


def test_without_a_run_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert console.Tracker(stream=Terminal()).bar is None
