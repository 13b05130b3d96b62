"""What several processes must agree on at every step: how late it is, and whether to stop.

Clocks differ and a signal reaches one process only; what follows from either (an evaluation, a
save, the end) is done by all of them or by none. These stand in for the run's own clock and stop
and ask the others, so the loop needs to know nothing of it: it reads them at the same places in
every process.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..distributed import DistributedContext
from ..errors import LostError
from .logging import Stopwatch
from .signals import StopSignal


class SharedWatch(Stopwatch):
    """The clock of the first process."""

    def __init__(self, dist: DistributedContext, own: Stopwatch) -> None:
        self.dist, self.own = dist, own

    @property
    def seconds(self) -> float:
        """Since the run began, there."""
        return self.dist.broadcast(self.own.seconds)


class SharedStop(StopSignal):
    """Whether somebody asked any of the processes to stop."""

    def __init__(self, dist: DistributedContext, own: StopSignal) -> None:
        self.dist, self.own = dist, own

    @property
    def number(self) -> int | None:  # type: ignore[override]
        """Of the signal that one of them got."""
        return int(self.dist.all_reduce_max(self.own.number or 0)) or None

    @property
    def gently(self) -> bool:
        """As of this process's own."""
        return self.own.gently

    @gently.setter
    def gently(self, value: bool) -> None:
        self.own.gently = value

    def __bool__(self) -> bool:
        return self.number is not None


def shared(
    dist: DistributedContext, handle_signals: Stopwatch, stop: StopSignal
) -> tuple[Stopwatch, StopSignal]:
    """Clock and stop of a run: its own, where it is one process."""
    if dist.world_size == 1:
        return handle_signals, stop
    return SharedWatch(dist, handle_signals), SharedStop(dist, stop)


class Meeting:
    """Where the first process tells the others what is trained, once everything that can be refused
    has been refused. Until then they wait."""

    def __init__(self, dist: DistributedContext) -> None:
        self.dist = dist
        self.told = dist.world_size == 1

    def begin(self, folder: Path, sources: Sequence[str], finished: bool = False) -> None:
        """Everybody trains this run; or there is nothing left to do in it."""
        if self.told:
            return
        self.told = True
        about = {"folder": str(folder), "sources": list(sources), "finished": finished}
        self.dist.broadcast_str(json.dumps(about))

    def listen(self) -> dict[str, Any]:
        """What the first process said; empty when it gave up."""
        self.told = True
        found: dict[str, Any] = json.loads(self.dist.broadcast_str(""))
        return found

    def close(self) -> None:
        """Lets the others go, where there is nothing to train."""
        if not self.told:
            with suppress(LostError):
                self.dist.broadcast_str("{}")


@contextmanager
def gathering(dist: DistributedContext) -> Iterator[Meeting]:
    """A meeting, for the length of a block."""
    meeting = Meeting(dist)
    try:
        yield meeting
    finally:
        meeting.close()
