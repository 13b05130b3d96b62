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

from ..distributed import World
from ..errors import LostError
from .log import Stopwatch
from .stop import Stop


class SharedWatch(Stopwatch):
    """The clock of the first process."""

    def __init__(self, world: World, own: Stopwatch) -> None:
        self.world, self.own = world, own

    @property
    def seconds(self) -> float:
        """Since the run began, there."""
        return self.world.of_first(self.own.seconds)


class SharedStop(Stop):
    """Whether somebody asked any of the processes to stop."""

    def __init__(self, world: World, own: Stop) -> None:
        self.world, self.own = world, own

    @property
    def number(self) -> int | None:  # type: ignore[override]
        """Of the signal that one of them got."""
        return int(self.world.largest(self.own.number or 0)) or None

    @property
    def gently(self) -> bool:
        """As of this process's own."""
        return self.own.gently

    @gently.setter
    def gently(self, value: bool) -> None:
        self.own.gently = value

    def __bool__(self) -> bool:
        return self.number is not None


def shared(world: World, watch: Stopwatch, stop: Stop) -> tuple[Stopwatch, Stop]:
    """Clock and stop of a run: its own, where it is one process."""
    if world.size == 1:
        return watch, stop
    return SharedWatch(world, watch), SharedStop(world, stop)


class Meeting:
    """Where the first process tells the others what is trained, once everything that can be refused
    has been refused. Until then they wait."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told = world.size == 1

    def begin(self, folder: Path, sources: Sequence[str], finished: bool = False) -> None:
        """Everybody trains this run; or there is nothing left to do in it."""
        if self.told:
            return
        self.told = True
        about = {"folder": str(folder), "sources": list(sources), "finished": finished}
        self.world.tell(json.dumps(about))

    def listen(self) -> dict[str, Any]:
        """What the first process said; empty when it gave up."""
        self.told = True
        found: dict[str, Any] = json.loads(self.world.tell(""))
        return found

    def close(self) -> None:
        """Lets the others go, where there is nothing to train."""
        if not self.told:
            with suppress(LostError):
                self.world.tell("{}")


@contextmanager
def gathering(world: World) -> Iterator[Meeting]:
    """A meeting, for the length of a block."""
    meeting = Meeting(world)
    try:
        yield meeting
    finally:
        meeting.close()
