"""Progress for a person, on standard error: a live bar on a terminal, plain lines elsewhere."""

import sys
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ...format import clock, compact, escape_control_characters
from ..train_state import Run, TrainState
from .base import BaseTracker, StepReport

BAR_WIDTH = 10


class Tracker(BaseTracker):
    """Prints progress lines, samples and messages; goes quiet when the terminal is gone."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet, self.stream = quiet, stream or sys.stderr
        self.bar: Progress | None = None

    def on_start(self, run: Run) -> None:
        if self.quiet or not self.stream.isatty():
            return
        columns = (BarColumn(BAR_WIDTH), TextColumn("{task.description}", markup=False))
        # rich writes to standard output by default, which may hold the JSON of --json
        self.bar = Progress(*columns, console=Console(file=self.stream), transient=True)
        self.bar_task = self.bar.add_task("", total=1.0)
        self.bar.start()
        self.every_step = True  # the bar moves with every step

    def on_step(self, state: TrainState, report: StepReport) -> None:
        # the longest line that fits, as rich would wrap a longer one
        line = progress_line(report)
        if self.bar is None:
            self.on_message(line)
            return
        if len(line) > self.bar.console.width - BAR_WIDTH - 1:
            line = short_progress_line(report)
        self.bar.update(self.bar_task, completed=report.progress, description=line)

    def on_sample(self, state: TrainState, text: str) -> None:
        self.on_message(f"--- the model writes (step {state.step}) ---\n{text}\n---")

    def on_note(self, state: TrainState, text: str, message: str) -> None:
        self.on_message(message)

    def on_message(self, message: str) -> None:
        if self.quiet:
            return
        message = escape_control_characters(message)
        try:
            if self.bar is not None:
                self.bar.console.print(message, markup=False, highlight=False)
            else:
                print(message, file=self.stream, flush=True)
        except (OSError, ValueError):
            self.quiet = True  # the terminal was closed; the run goes on

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def progress_line(report: StepReport) -> str:
    """`T+ 0:02:10 · step 820/2000 · train loss 1.557 · ... · left 0:01:10`."""
    total = f"/{report.total_steps}" if report.total_steps else ""
    values = {
        "train loss": report.train_loss,
        "val loss": report.val_loss,
        "train acc": report.train_accuracy,
        "val acc": report.val_accuracy,
    }
    start = [f"T+ {clock(report.seconds)}", f"step {report.step}{total}"]
    line = _joined(start, values, report)
    # the last evaluation may be long ago
    if report.val_loss is not None and report.val_step != report.step:
        line += f" · val of step {report.val_step}"
    return line


def short_progress_line(report: StepReport) -> str:
    """The same for a terminal of 80 columns."""
    values = {"train": report.train_loss, "val": report.val_loss}
    return _joined([f"step {report.step}"], values, report)


def _joined(parts: list[str], values: dict[str, float | None], report: StepReport) -> str:
    parts += [f"{name} {value:.3f}" for name, value in values.items() if value is not None]
    parts.append(f"{compact(report.tokens_per_second, '')} tok/s")
    if report.seconds_left is not None:
        parts.append(f"left {clock(report.seconds_left)}")
    return " · ".join(parts)
