"""metrics.jsonl in the run folder: one JSON object per event, for the report and for programs."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...evaluate.loss import Score
from ...files import write_file
from ...tokenizers import clean
from ..train_state import Run, TrainState
from .base import BaseTracker, StepReport

FILE = "metrics.jsonl"


@dataclass
class Tracker(BaseTracker):
    """Appends events to metrics.jsonl. A full disk never ends the run: what cannot be written is
    written with a later event, if there is room by then."""

    warn: Callable[[str], None] = lambda message: None
    """Is told once when the file cannot be written."""
    path: Path | None = None
    waiting: list[str] = field(default_factory=list)
    """Lines that are not in the file yet."""
    has_warned: bool = False

    def on_start(self, run: Run) -> None:
        self.path = run.folder / FILE

    def on_resume(self, state: TrainState) -> None:
        assert self.path is not None
        # a base model is evaluated at step 0, which no checkpoint before that knows of
        last_eval_step = -1 if state.best_score is None else state.last_eval_step
        drop_events_after(self.path, state.step, last_eval_step, state.branch)

    def on_extend(self, state: TrainState) -> None:
        assert self.path is not None
        drop_events_after(self.path, -1, -1, state.branch)  # begun before, and killed
        seconds = round(state.seconds, 3)
        self.write("extension", step=state.step, seconds=seconds, branch=state.branch)

    def on_step(self, state: TrainState, report: StepReport) -> None:
        if not report.due:
            return
        self.write(
            "step",
            step=state.step,
            tokens=state.tokens,
            seconds=round(report.seconds, 3),
            loss=report.train_loss,
            accuracy=report.train_accuracy,
            lr=report.lr,
            tokens_per_second=round(report.tokens_per_second),
        )

    def on_eval(self, state: TrainState, score: Score, is_best: bool) -> None:
        self.write(
            "evaluation",
            step=state.step,
            tokens=state.tokens,
            seconds=round(state.seconds, 3),
            loss=score.loss,
            accuracy=score.accuracy,
            bits_per_byte=score.bits_per_byte,
            best=is_best,
            metrics=score.metrics or None,
        )

    def on_sample(self, state: TrainState, text: str) -> None:
        seconds = round(state.seconds, 3)
        self.write("sample", step=state.step, seconds=seconds, prompt="", text=text)

    def on_note(self, state: TrainState, text: str, message: str) -> None:
        self.write("note", step=state.step, seconds=round(state.seconds, 3), text=text)

    def on_end(self, results: dict[str, Any]) -> None:
        step, seconds = results["best_step"], results["seconds"]
        self.write("sample", step=step, seconds=seconds, prompt="", text=results["sample"])

    def write(self, kind: str, **values: Any) -> None:
        """Appends one event; NaN and infinity, which JSON lacks, become null."""
        if self.path is None:
            return
        event = {"event": kind, **{name: _finite(value) for name, value in values.items()}}
        self.waiting.append(clean(json.dumps(event, ensure_ascii=False)) + "\n")
        size = None
        try:
            # opened for each event, so that a killed run loses no more than a line
            with self.path.open("a", encoding="utf-8") as file:
                size = file.tell()
                file.write("".join(self.waiting))
            self.waiting.clear()
        except OSError as error:
            if size is not None:
                with contextlib.suppress(OSError):  # half a line would spoil the next one
                    os.truncate(self.path, size)
            if not self.has_warned:
                self.has_warned = True
                self.warn(f"{FILE} cannot be written ({error.strerror}): training goes on")


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of metrics.jsonl, without the incomplete last line of a killed run."""
    if not path.exists():
        return []
    events = []
    # only \n ends a line: JSON may hold U+2028, U+0085 and the like as they are
    for line in path.read_bytes().decode("utf-8", "replace").split("\n"):
        try:  # a kill may have cut off the last line
            event = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def drop_events_after(path: Path, step: int, last_eval_step: int, branch: int = 0) -> None:
    """Drops the events that a run which resumes from a checkpoint will write again.

    Args:
        step: of the checkpoint.
        last_eval_step: the last evaluation that the checkpoint knows of. A run that was killed
            between an evaluation and the save after it has written one more.
        branch: of the checkpoint; what was logged before it began stays.
    """
    kept, is_earlier = list[dict[str, Any]](), branch > 0
    for event in read_events(path):
        kind = event.get("event")
        is_earlier = is_earlier and not (kind == "extension" and event.get("branch") == branch)
        if is_earlier or event.get("step", 0) <= (last_eval_step if kind == "evaluation" else step):
            kept.append(event)
    # replaced as a whole: a kill in between leaves the old log, not half of a new one
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in kept)
    write_file(path, clean(text).encode())


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
