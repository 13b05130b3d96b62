"""`History`, callbacks, and the tracker that calls them, with the meanings they have in Keras."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..evaluate.loss import Score
from ..format import clock
from ..train.trackers import jsonl
from ..train.trackers.base import BaseTracker, StepReport
from ..train.train_state import Run, TrainState


@dataclass
class History:
    """What `fit` returns: metrics by epoch, as in Keras."""

    history: dict[str, list[float]] = field(default_factory=dict)
    """`loss`, `accuracy`, `val_loss`, `val_accuracy` and `val_NAME` of your own metrics: one
    number for each epoch, or for each evaluation of a budget that counts no epochs. Those of the
    training part are means over the steps of the epoch, as Keras gives them."""
    epoch: list[int] = field(default_factory=list)
    """Numbers of the epochs, from `initial_epoch` on."""
    params: dict[str, int] = field(default_factory=dict)
    """`epochs` and `steps`, the optimizer steps of an epoch."""


class Callback:
    """Ignores everything; a callback overrides what it reacts to. `self.model` is the `GPT`, whose
    `stop_training = True` ends the training after this evaluation.
    """

    model: Any = None

    def set_model(self, model: Any) -> None:
        """Called once, before the training."""
        self.model = model

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Before the first step."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Before the first step of an epoch."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """After a step; `logs` has its loss and accuracy."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """After the evaluation of an epoch; `logs` has what `History` gets."""

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """After the last epoch."""


class Stoppable(Protocol):
    """What can ask its training to stop."""

    stop_training: bool


class EpochTracker(BaseTracker):
    """Turns steps and evaluations into epochs: calls the callbacks, prints a line for each epoch,
    and writes each to metrics.jsonl, so that the history of a resumed run is whole.

    Args:
        model: asked for `stop_training` after each epoch.
        callbacks: objects with some of the methods of `Callback`.
        epochs: number of the last epoch and the steps of one; None if the budget counts none.
    """

    every_step = True

    def __init__(
        self,
        model: Stoppable,
        callbacks: Sequence[Any],
        epochs: tuple[int, int] | None,
        initial_epoch: int,
        prints: bool,
    ) -> None:
        self.model, self.callbacks, self.prints = model, callbacks, prints
        self.epochs, self.initial_epoch = epochs, initial_epoch
        self.log = jsonl.Tracker()
        self.batch, self.epoch, self.began = 0, initial_epoch, 0.0
        self.loss_sum, self.accuracy_sum, self.counted = 0.0, 0.0, 0

    def on_start(self, run: Run) -> None:
        self.log.path = run.folder / jsonl.FILE
        for callback in self.callbacks:
            if hasattr(callback, "set_model"):
                callback.set_model(self.model)
        self._call("on_train_begin", {})

    def on_resume(self, state: TrainState) -> None:
        assert self.log.path is not None
        self.epoch = self.initial_epoch + len(epoch_events(self.log.path.parent))
        self.began = state.seconds

    def on_step(self, state: TrainState, report: StepReport) -> None:
        if self.batch == 0:
            self._call("on_epoch_begin", self.epoch, {})
        logs = {"loss": report.step_loss, "accuracy": report.step_accuracy}
        self._call("on_train_batch_end", self.batch, logs)
        self.batch += 1
        if math.isfinite(report.step_loss):  # a skipped step has neither
            self.loss_sum += report.step_loss
            self.accuracy_sum += report.step_accuracy
            self.counted += 1

    def on_eval(self, state: TrainState, score: Score, is_best: bool) -> None:
        counted = max(1, self.counted)
        logs = {
            "loss": self.loss_sum / counted,
            "accuracy": self.accuracy_sum / counted,
            "val_loss": score.loss,
            "val_accuracy": score.accuracy,
            **{f"val_{name}": value for name, value in score.metrics.items()},
        }
        self.log.write("epoch", step=state.step, epoch=self.epoch, logs=logs)
        if self.prints:
            total = f"/{self.epochs[0]}" if self.epochs else ""
            values = "".join(f" - {name}: {value:.4f}" for name, value in logs.items())
            seconds = clock(state.seconds - self.began)
            line = f"Epoch {self.epoch + 1}{total} - {self.batch} steps, {seconds}{values}"
            print(line, file=sys.stderr, flush=True)
        self._call("on_epoch_end", self.epoch, logs)
        self.began, self.epoch, self.batch = state.seconds, self.epoch + 1, 0
        self.loss_sum, self.accuracy_sum, self.counted = 0.0, 0.0, 0
        state.converged = state.converged or self.model.stop_training

    def on_end(self, results: dict[str, Any]) -> None:
        self._call("on_train_end", {})

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            if method := getattr(callback, hook, None):
                method(*arguments)


def epoch_events(folder: Path) -> list[dict[str, Any]]:
    """The epochs that `EpochTracker` wrote to the metrics.jsonl of a run."""
    return [event for event in jsonl.read_events(folder / jsonl.FILE) if event["event"] == "epoch"]


def read_history(folder: Path, epochs: tuple[int, int] | None) -> History:
    """The history of a run, those epochs included that were trained before it was resumed."""
    result = History()
    for event in epoch_events(folder):
        result.epoch.append(event["epoch"])
        for name, value in event["logs"].items():
            result.history.setdefault(name, []).append(value)
    if epochs is not None:
        result.params = {"epochs": epochs[0], "steps": epochs[1]}
    return result
