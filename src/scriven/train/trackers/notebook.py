"""Progress in a Jupyter notebook: one output, updated in place, which ends with the loss curves."""

import time
from typing import Any

from ...evaluate.loss import Score
from ...format import clean
from ...notebook import card, curves
from ..train_state import Run, TrainState
from .base import BaseTracker, StepReport
from .console import progress_line

SECONDS = 1.0  # between two updates, so that a notebook on a slow connection keeps up
MESSAGES = 4
POINTS = 400  # of a curve


class Tracker(BaseTracker):
    """Shows a card with a progress bar, the last messages, a sample and the loss curves."""

    every_step = True

    def __init__(self) -> None:
        self.handle: Any = None
        self.title, self.line, self.text = "", "", ""
        self.progress, self.shown = 0.0, 0.0
        self.messages: list[str] = []
        self.curves: dict[str, list[tuple[float, float]]] = {}

    def on_start(self, run: Run) -> None:
        self.title = f"training {run.folder.name}"

    def on_step(self, state: TrainState, report: StepReport) -> None:
        if report.train_loss is not None:
            self._add("training loss", state.step, report.train_loss)
        self.progress, self.line = report.progress, progress_line(report)
        if time.monotonic() - self.shown >= SECONDS:
            self._show()

    def on_eval(self, state: TrainState, score: Score, is_best: bool) -> None:
        self._add("validation loss", state.step, score.loss)

    def on_sample(self, state: TrainState, text: str) -> None:
        self.text = clean(text)[:300]

    def on_note(self, state: TrainState, text: str, message: str) -> None:
        self.on_message(message)

    def on_message(self, message: str) -> None:
        self.messages = [*self.messages, clean(message)][-MESSAGES:]

    def on_end(self, results: dict[str, Any]) -> None:
        self.title, self.progress = self.title.replace("training", "trained", 1), 1.0
        self.text = clean(results["sample"])[:300]

    def close(self) -> None:
        if self.title:  # also of a run that was interrupted: the card shows how far it came
            self._show()

    def _add(self, name: str, step: int, value: float) -> None:
        points = self.curves.setdefault(name, [])
        points.append((step, value))
        if len(points) > POINTS:  # every second one, so that the output stays small
            del points[1:-1:2]

    def _show(self) -> None:
        from IPython.display import HTML, display

        bar = f'<progress value="{self.progress:.4f}" max="1" style="width:100%"></progress>'
        rows = {"": self.line, **{" " * n: text for n, text in enumerate(self.messages, 1)}}
        page = HTML(card(self.title, rows, bar + curves(self.curves), self.text))
        # a handle of this training: a cell that runs again gets an output of its own
        if self.handle is None:
            self.handle = display(page, display_id=True)
        else:
            self.handle.update(page)
        self.shown = time.monotonic()
