"""Programs side by side in one run: each is a child process with its own threads, and only the one
whose turn it is runs; the others are stopped, so that no idle thread spins on a core.

Knows neither models nor figures; what a child can be asked is in rivals/shared/child.py.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any


class RivalFailed(Exception):
    """A child gave up; the text says which, and why."""


class Rival:
    """A child process, stopped whenever it is not asked anything.

    Args:
        name: shown beside its figures.
        command: what to run.
        log: where its standard error goes.
        threads: it may use.
        extra: further environment variables.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        threads: int,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.log = name, log
        count = str(threads)
        environment = {
            **os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count,
            "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
            **(extra or {}),
        }  # fmt: skip
        self.stderr = log.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
            text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        self._signal(signal.SIGSTOP)

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Lets it run until it has answered; `wall` is the time seen from outside.

        Raises:
            RivalFailed: it ended, or says that it cannot.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        began = time.perf_counter()
        self._signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        wall = time.perf_counter() - began
        if not line:
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RivalFailed(f"{self.name} ended: {last[-1] if last else 'without a word'}")
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RivalFailed(f"{self.name}, {do}: {answer['error']}")
        return {**answer, "wall": wall}

    def close(self) -> None:
        """Ends it and what it started."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _signal(self, number: signal.Signals) -> None:
        """To the child and its own children, such as a compiler."""
        with contextlib.suppress(ProcessLookupError):  # it has ended, which the next answer tells
            os.killpg(self.process.pid, number)

    def __enter__(self) -> "Rival":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def interleave(turns: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """A B A B ...: every one once in each round, so that a slow minute of the machine hits all.

    Args:
        turns: by name, what takes a turn and returns its figure.
        repeats: rounds.

    Returns:
        The figures of each, one per round.
    """
    found: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            found[name].append(turn())
    return found


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


def ratios(found: Mapping[str, Sequence[float]], ours: str) -> dict[str, float]:
    """How many times `ours` fits into each one's median; above 1 the other takes longer."""
    base = statistics.median(found[ours])
    return {name: statistics.median(values) / base for name, values in found.items()}
