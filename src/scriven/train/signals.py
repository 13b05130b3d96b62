"""Ctrl-C, SIGTERM and a closed terminal: the step is finished and saved before the run ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


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
