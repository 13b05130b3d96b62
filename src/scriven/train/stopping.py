"""What ends a training before its budget is spent: a signal, a request to finish, early stopping.

Ctrl-C, SIGTERM and a closed terminal: the step is finished and saved before the run ends.

`scriven finish RUN`, or the button of the page: the request is a file in the run folder, which
reaches the process that trains on every system. Its learning rate then falls within the given time,
which is worth more than to stop at a flat one.
"""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ..distributed import DistributedContext
from ..errors import InputError, SettingError
from ..evaluate.loss import Score
from ..files import printable, write_file
from ..runs.folder import training_process
from ..settings import OptimSettings, Settings
from .schedule import FULL_LENGTH_FROM, TrainingHorizon, flat_until, parse_budget
from .train_state import TrainState

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
FILE = "finish-request.json"
LOOK_SECONDS = 1.0  # between two looks for the file


class Interrupted(KeyboardInterrupt):  # no Exception: `except Exception` must not catch it
    """A signal ended a run. `exit_code` is 128 plus the signal's number, as in a shell; `folder` is
    where the state was saved, if it was."""

    def __init__(self, number: int, text: str = "", folder: Path | None = None) -> None:
        super().__init__(text)
        self.exit_code = 128 + number
        self.folder = folder


@dataclass
class StopSignal:
    """A signal handler that remembers the first signal, and raises on the second."""

    number: int | None = None
    """The signal that was received, if any."""
    is_deferred: bool = False
    """Whether the first signal is only remembered, as there is a state to save; otherwise it
    interrupts at once."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        is_second, self.number = self.number is not None, self.number or number
        # also remembered when raised: a library may swallow the exception (safetensors does while
        # it reads a tensor), and the training loop then ends the run
        if is_second or not self.is_deferred:
            raise Interrupted(number)  # a second signal, or nothing to save: leave at once


@contextmanager
def handle_signals() -> Iterator[StopSignal]:
    """Handles the signals within a block; in any thread but the main one nothing is handled."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # an ignored signal stays ignored: nohup, and background jobs of a script
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def request_finish(folder: Path, within: str) -> float:
    """Asks the process that trains a run to finish it.

    Args:
        within: a time, such as 2m.

    Returns:
        The same in seconds.

    Raises:
        InputError: the run is not being trained on this computer, or cannot be written to.
        SettingError: no time.
    """
    budget = parse_budget(within)
    if budget.unit != "seconds":
        raise SettingError(f"within {within}: a time, such as 90s or 2m")
    if training_process(folder) is None:
        raise InputError(f"{printable(folder)} is not being trained on this computer")
    content = {"seconds": budget.amount, "asked": time.time()}
    write_file(folder / FILE, json.dumps(content).encode("ascii"))
    return budget.amount


@dataclass
class FinishRequest:
    """The request to finish a run, if there is one, as its training sees it."""

    folder: Path
    dist: DistributedContext
    next_look: float = 0.0

    def apply(
        self, horizon: TrainingHorizon, state: TrainState, now: float, optim: OptimSettings
    ) -> str | None:
        """Brings the end of a run forward, if that was asked for; looks once a second, and only
        after a step.

        Args:
            now: seconds of the run.

        Returns:
            A sentence for the log, if the file was there.
        """
        if now < self.next_look:
            return None
        self.next_look = now + LOOK_SECONDS
        seconds = self.dist.broadcast(self.take())
        if not seconds:
            return None
        # a run that counts steps has a pace
        by_clock = horizon.steps is None
        amount = seconds if by_clock else max(1, round(seconds * state.step / now))
        horizon.finish_within(amount, state.step, now, flat_until(optim))
        state.early_end = horizon.early_end
        return f"asked to finish within {seconds:.0f} seconds: the learning rate falls until then"

    def take(self) -> float:
        """The seconds of the file, which is removed; 0 without one."""
        path = self.folder / FILE
        if not self.dist.is_main_process or not path.exists():
            return 0.0
        seconds = 0.0
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            seconds = float(json.loads(path.read_bytes()[:1000])["seconds"])
        with suppress(OSError):
            path.unlink()
        return seconds if 0 < seconds < float("inf") else 0.0


def stop_early(
    state: TrainState, score: Score, horizon: TrainingHorizon, now: float, settings: Settings
) -> str | None:
    """Decides after an evaluation whether the run has converged, and sets `state.converged`; or
    brings the decay of its learning rate forward.

    Args:
        state: of the run, changed in place.
        score: of the evaluation that has just been made.
        horizon: the end of the run, which may be brought forward.
        now: seconds of the run.

    Returns:
        A sentence for the log, if anything was decided.
    """
    patience, flat = settings.train.patience, flat_until(settings.optim)
    progress = horizon.progress(state.step, now)
    # while sequences are shorter than the context: longer ones will improve the loss anyway
    if settings.train.initial_context_length is not None and progress < FULL_LENGTH_FROM:
        state.evals_without_improvement = 0
    if not patience or state.evals_without_improvement < patience:
        return None
    text = (
        f"no better validation {'accuracy' if score.by_accuracy else 'loss'} in {patience} "
        "evaluations: "
    )
    if flat is None:
        state.converged = True
        return text + "stopping"
    if progress >= flat:
        return None
    horizon.start_early_decay(state.step, now, flat)
    state.early_end, state.evals_without_improvement = horizon.early_end, 0
    return text + "the learning rate falls from here, and the run ends early"
