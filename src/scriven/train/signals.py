"""Ctrl-C, SIGTERM and a closed terminal: finish the step, save, and say how to go on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Interrupted(BaseException):  # like KeyboardInterrupt: nothing should swallow it
    """A run was asked to stop. `exit_code` is 128 plus the signal's number, as shells have it;
    `folder` is where the state was saved, if there was any."""

    def __init__(self, number: int, text: str = "", folder: Path | None = None) -> None:
        super().__init__(text)
        self.exit_code = 128 + number
        self.folder = folder


class StopSignal:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.gently = False
        """While a training loop watches, a signal is noted; otherwise it interrupts at once."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None or not self.gently:
            raise Interrupted(number)  # the second time, or nothing to save: leave at once
        self.number = number

    def __bool__(self) -> bool:
        return self.number is not None


@contextmanager
def handle_signals() -> Iterator[StopSignal]:
    """Handles the signals for the length of a block; only the main thread can."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # what was ignored stays ignored: nohup, and jobs in the background of a script
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
