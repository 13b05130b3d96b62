"""Interleaved measurement of several programs: each is a child process with its own threads, and
only the one whose turn it is runs; the others are stopped, so that no idle thread spins on a core.

Independent of models and metrics; peers/shared/child.py lists the requests of a child.
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


class PeerFailed(Exception):
    """A child process failed; the message says which, and why."""


class Peer:
    """A child process that is stopped (SIGSTOP) except while it answers a request.

    Args:
        name: shown beside its results.
        command: what to run.
        log: the file for its standard error.
        threads: how many it may use.
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
        """Sends a request and lets it run until it has answered; `wall` is the time until then.

        Raises:
            PeerFailed: it ended, or answered with an error.
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
            raise PeerFailed(f"{self.name} ended: {last[-1] if last else 'no message'}")
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self.name}, {do}: {answer['error']}")
        return {**answer, "wall": wall}

    def close(self) -> None:
        """Kills it and its children."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _signal(self, number: signal.Signals) -> None:
        """Signals the child and its own children, such as a compiler."""
        with contextlib.suppress(
            ProcessLookupError
        ):  # it has ended, which the next request reports
            os.killpg(self.process.pid, number)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def interleave(turns: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measures A B A B ..., once each per round, so that a slow minute of the machine affects all.

    Args:
        turns: by name, a function that takes one measurement.
        repeats: rounds.

    Returns:
        The measurements of each, one per round.
    """
    found: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            found[name].append(turn())
    return found


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


def ratios(found: Mapping[str, Sequence[float]], ours: str) -> dict[str, float]:
    """Each median divided by that of `ours`; above 1 the other takes longer."""
    base = statistics.median(found[ours])
    return {name: statistics.median(values) / base for name, values in found.items()}
