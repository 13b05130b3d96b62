"""What a run says while it trains: lines for a person, metrics.jsonl for everything else."""

import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..files import write_file
from ..format import clock, compact
from ..tokenizers.special_tokens import visible

BAR = 10
"""Columns of the live bar."""


@dataclass
class Line:
    """The figures of one progress line; None where there is none yet."""

    seconds: float
    step: int
    steps: int | None
    left: float | None
    tokens_per_second: float
    train_loss: float | None = None
    val_loss: float | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None

    def __str__(self) -> str:
        total = f"/{self.steps}" if self.steps else ""
        parts = [f"T+ {clock(self.seconds)}", f"step {self.step}{total}"]
        for name, value in (
            ("train loss", self.train_loss),
            ("val loss", self.val_loss),
            ("train acc", self.train_accuracy),
            ("val acc", self.val_accuracy),
        ):
            if value is not None:
                parts.append(f"{name} {value:.3f}")
        parts.append(f"{compact(self.tokens_per_second, '')} tok/s")
        if self.left is not None:
            parts.append(f"left {clock(self.left)}")
        return " · ".join(parts)

    def short(self) -> str:
        """What matters most, for a terminal of 80 columns."""
        parts = [f"step {self.step}"]
        for name, value in (("train", self.train_loss), ("val", self.val_loss)):
            if value is not None:
                parts.append(f"{name} {value:.3f}")
        parts.append(f"{compact(self.tokens_per_second, '')} tok/s")
        if self.left is not None:
            parts.append(f"left {clock(self.left)}")
        return " · ".join(parts)


class Log:
    """Writes events to a file and progress to a stream, and survives the loss of either."""

    def __init__(self, path: Path | None, stream: TextIO | None = None, quiet: bool = False):
        self.path, self.quiet = path, quiet
        self.stream = stream or sys.stderr
        self.broken = False
        self.bar: Progress | None = None
        if path is not None and not quiet and self.stream.isatty():
            columns = (BarColumn(BAR), TextColumn("{task.description}", markup=False))
            # on our own stream: standard output may hold the JSON of --json
            self.bar = Progress(*columns, console=Console(file=self.stream), transient=True)
            self.task = self.bar.add_task("", total=1.0)
            self.bar.start()

    def event(self, kind: str, **values: Any) -> None:
        """One line of metrics.jsonl; a full disk costs the log, never the run."""
        if self.path is None or self.broken:
            return
        plain = {key: _finite(value) for key, value in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": kind, **plain}, ensure_ascii=False) + "\n")
        except OSError as error:
            self.broken = True
            self.say(f"metrics.jsonl cannot be written ({error.strerror}): training goes on")

    def progress(self, line: Line, share: float, shown: bool) -> None:
        """The live bar on a terminal; a plain line when `shown` elsewhere."""
        if self.bar is not None:
            room = self.bar.console.width - BAR - 1
            text = str(line) if len(str(line)) <= room else line.short()
            self.bar.update(self.task, completed=share, description=text)
        elif shown:
            self.say(str(line))

    def say(self, text: str) -> None:
        """A sentence for the person, on standard error."""
        if self.quiet:
            return
        text = visible(text)
        try:
            if self.bar is not None:
                self.bar.console.print(text, markup=False, highlight=False)
            else:
                print(text, file=self.stream, flush=True)
        except (OSError, ValueError):
            self.quiet = True  # the terminal is gone; the run goes on (B4)

    def close(self) -> None:
        """Ends the live bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class Stopwatch:
    """Seconds a run has used, carried on over restarts; never goes back with the clock (A20)."""

    def __init__(self, used: float = 0.0, began: float | None = None) -> None:
        self.began = (time.monotonic() if began is None else began) - used

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of metrics.jsonl; the torn last line of a killed run is passed over."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def forget_after(path: Path, step: int, looked: int) -> None:
    """Drops the events that a run which goes on from a checkpoint writes again.

    Args:
        step: of the checkpoint.
        looked: step of the last evaluation that the checkpoint knows of. A run that was killed
            between an evaluation and the save after it had written one more.
    """
    kept = [
        event
        for event in read_events(path)
        if event.get("step", 0) <= (looked if event.get("event") == "evaluation" else step)
    ]
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in kept)
    write_file(path, text.encode())


def _finite(value: Any) -> Any:
    """JSON has no NaN; null says the same."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
