"""The tracker interface: what a run reports while it trains, to a console, a file or a service.

A newcomer adds one file beside this one, or names a file of their own with
`--train.trackers ./mine.py`. It holds a class `Tracker(BaseTracker)` that overrides what it needs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...evaluate.loss import Score
from ..train_state import Run, TrainState


@dataclass(frozen=True)
class StepReport:
    """Averages over the steps since the last report; None where there is no value yet."""

    seconds: float
    """Seconds since the run began."""
    step: int
    total_steps: int | None
    """None for a wall-clock budget."""
    seconds_left: float | None
    tokens_per_second: float
    train_loss: float | None = None
    val_loss: float | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None
    lr: float = 0.0
    """Learning rate of the first optimizer in the last step."""
    grad_norm: float = 0.0
    """Gradient norm of the last step."""
    progress: float = 0.0
    """Fraction of the budget that was spent before the last step."""
    val_step: int = 0
    """The step of the evaluation that gave `val_loss`."""
    step_loss: float = math.nan
    """Loss and accuracy of the last step alone; NaN where it was skipped."""
    step_accuracy: float = math.nan
    due: bool = True
    """Whether `train.log_seconds` have passed since the last report that was due."""


class BaseTracker:
    """Ignores everything; a tracker overrides what it reports.

    An error in a method ends the run, so a tracker catches those it can do without.
    """

    every_step = False
    """Whether `on_step` is called after every step, and not only when a report is due."""

    def on_start(self, run: Run) -> None:
        """Before the first step, or the first after an interruption: `run.folder`,
        `run.metadata` and `run.plan` say what is trained."""

    def on_resume(self, state: TrainState) -> None:
        """The run continues from this checkpoint; later events are dropped, as they come again."""

    def on_extend(self, state: TrainState) -> None:
        """A longer training begins from this checkpoint; what was logged after it stays."""

    def on_step(self, state: TrainState, report: StepReport) -> None:
        """After a step."""

    def on_eval(self, state: TrainState, score: Score, is_best: bool) -> None:
        """After an evaluation on the validation part."""

    def on_sample(self, state: TrainState, text: str) -> None:
        """Text that the model generated during training."""

    def on_save(self, state: TrainState) -> None:
        """A checkpoint was written."""

    def on_note(self, state: TrainState, text: str, message: str) -> None:
        """Something that belongs in the log of the run, such as a skipped step.

        Args:
            message: the same for a person who is watching, perhaps in more words.
        """

    def on_message(self, message: str) -> None:
        """A sentence for a person who is watching, which is not part of the log."""

    def on_end(self, results: dict[str, Any]) -> None:
        """The run is finished; not called when it is interrupted."""

    def close(self) -> None:
        """Always called last."""


class Trackers(BaseTracker):
    """A list of trackers as one tracker."""

    def __init__(self, trackers: Sequence[BaseTracker]) -> None:
        self.trackers = list(trackers)
        # every event of the interface goes to each tracker that reports it, in order
        for event in vars(BaseTracker).keys() - vars(Trackers).keys():
            if event.startswith("on_") or event == "close":
                default = getattr(BaseTracker, event)
                given = [each for each in self.trackers if getattr(type(each), event) != default]
                setattr(self, event, partial(_call_all, [getattr(each, event) for each in given]))

    @property
    def wants_every_step(self) -> bool:
        """Whether any of them does."""
        return any(tracker.every_step for tracker in self.trackers)

    def on_step(self, state: TrainState, report: StepReport) -> None:
        for tracker in self.trackers:
            # a bar moves with every step; a log line comes every `train.log_seconds`
            if report.due or tracker.every_step:
                tracker.on_step(state, report)

    def on_note(self, state: TrainState, text: str, message: str = "") -> None:
        """Without a message of its own, the text is shown to a person too."""
        for tracker in self.trackers:
            tracker.on_note(state, text, message or text)


def _call_all(methods: Sequence[Callable[..., None]], *arguments: Any) -> None:
    for method in methods:
        method(*arguments)
