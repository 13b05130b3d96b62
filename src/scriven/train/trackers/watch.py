"""`scriven train TEXT --watch`: the page of `scriven serve`, opened for a run while it trains.

The server is a process of its own: it ends with the training, and the training never waits for it.
"""

import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from ...errors import MissingExtra
from ..train_state import Run, TrainState
from .base import BaseTracker


class Tracker(BaseTracker):
    """Starts the server once there are weights to load, and ends it with the run."""

    def __init__(self) -> None:
        for package in ("fastapi", "uvicorn"):
            if find_spec(package) is None:
                raise MissingExtra(package, "serve", "--watch")
        self.folder: Path | None = None
        self.server: subprocess.Popen[bytes] | None = None

    def on_start(self, run: Run) -> None:
        self.folder = run.folder

    def on_step(self, state: TrainState, report: object) -> None:
        if self.folder is None or self.server is not None:
            return
        if (self.folder / "tokenizer.json").exists():  # the first weights are published
            command = [sys.executable, "-m", "scriven", "serve", str(self.folder)]
            with suppress(OSError):  # no more processes: the run goes on without the page
                self.server = subprocess.Popen([*command, "--port", "0", "--open"])  # noqa: S603

    def close(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            try:
                self.server.wait(10)
            except subprocess.TimeoutExpired:
                self.server.kill()
