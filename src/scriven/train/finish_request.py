"""Finishing a training early: `scriven finish RUN`, or the button of the page.

The request is a file in the run folder, which reaches the process that trains on every system. Its
learning rate then falls within the given time, which is worth more than to stop at a flat one.
"""

import json
import time
from contextlib import suppress
from pathlib import Path

from ..distributed import DistributedContext
from ..errors import InputError, SettingError
from ..files import printable, write_file
from ..runs.folder import training_process
from ..settings import OptimSettings
from .schedule import TrainingHorizon, flat_until, parse_budget
from .train_state import TrainState

FILE = "finish-request.json"
LOOK_SECONDS = 1.0  # between two looks for the file


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


class FinishRequest:
    """The request to finish a run, if there is one, as its training sees it."""

    def __init__(self, folder: Path, dist: DistributedContext) -> None:
        self.path, self.dist, self.next_look = folder / FILE, dist, 0.0
        self._take()  # one that a killed run has not seen is not meant for this one

    def apply(
        self, horizon: TrainingHorizon, state: TrainState, now: float, optim: OptimSettings
    ) -> str | None:
        """Brings the end of a run forward, if that was asked for; looks once a second.

        Args:
            now: seconds of the run.

        Returns:
            A sentence for the log, if the file was there.
        """
        if now < self.next_look or not state.step:
            return None
        self.next_look = now + LOOK_SECONDS
        seconds = self.dist.broadcast(self._take())
        if not seconds:
            return None
        # a run that counts steps has a pace
        by_clock = horizon.steps is None
        amount = seconds if by_clock else max(1, round(seconds * state.step / now))
        horizon.finish_within(amount, state.step, now, flat_until(optim))
        state.early_end = horizon.early_end
        return f"asked to finish within {seconds:.0f} seconds: the learning rate falls until then"

    def _take(self) -> float:
        """The seconds of the file, which is removed; 0 without one."""
        if not self.dist.is_main_process or not self.path.exists():
            return 0.0
        seconds = 0.0
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            seconds = float(json.loads(self.path.read_bytes()[:1000])["seconds"])
        with suppress(OSError):
            self.path.unlink()
        return seconds if 0 < seconds < float("inf") else 0.0
