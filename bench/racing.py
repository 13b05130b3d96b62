"""What every contest does with its entries: start them, find each one's best settings, drop those
that fail a gate, and let the others take turns."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contest import Rival, RivalFailed
from entries import OURS, Entry
from gates import GateFailed


@dataclass
class Contestant:
    """A running entry and what is known of it."""

    entry: Entry
    rival: Rival
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """For its row: parameters, versions, what the gates measured, what was tried."""


@dataclass
class Contest:
    """The contestants still in; ours is the first."""

    stack: ExitStack
    field: list[Contestant]
    failures: list[str]

    @property
    def ours(self) -> Contestant:
        assert self.field and self.field[0].entry.name == OURS, "ours comes first and never fails"
        return self.field[0]

    def each(self, work: Callable[[Contestant], None]) -> None:
        """Does it with every contestant; one that cannot, or fails a gate, is out.

        Raises:
            RivalFailed, GateFailed: it is ours.
        """
        for one in list(self.field):
            try:
                work(one)
            except (RivalFailed, GateFailed) as error:
                if one is self.field[0]:
                    raise
                print(f"OUT: {error}", flush=True)
                self.failures.append(str(error))
                self.field.remove(one)
                one.rival.close()


def enter(stack: ExitStack, entries: Iterable[Entry], work: Path, threads: int) -> Contest:
    """Starts everybody; they wait, stopped, until they are asked."""
    found = []
    for entry in entries:
        log = work / f"{entry.name.replace(', ', '-')}.log"
        rival = Rival(entry.name, entry.command, log, threads, entry.environment)
        found.append(Contestant(entry, stack.enter_context(rival)))
    return Contest(stack, found, [])


def prepare(one: Contestant, run: Path, **request: Any) -> None:
    """With the settings that were chosen; what it says of itself goes into its row."""
    folder = str(one.entry.folder or run)
    told = one.rival.ask("prepare", folder=folder, **{**request, **one.settings})
    one.facts.update({name: told[name] for name in ("parameters", "versions", "dtype")})
    if told.get("system"):
        one.facts["system"] = told["system"]


def choose(one: Contestant, attempt: Callable[[Contestant], float]) -> None:
    """Tries each of its settings, then the fastest of them with torch.compile where the entry says
    so, and keeps the fastest; nothing is tried where there is no choice.

    Args:
        attempt: prepares with `one.settings` and returns seconds.

    Raises:
        RivalFailed: none of them works.
    """
    if len(one.entry.choices) == 1 and not one.entry.compiles:
        one.settings = one.entry.choices[0]
        return
    tried: list[tuple[float, dict[str, Any]]] = []

    def attempt_all(choices: list[dict[str, Any]]) -> None:
        for settings in choices:
            one.settings = settings
            try:
                tried.append((attempt(one), settings))
            except RivalFailed as error:
                if one.rival.process.poll() is not None or (not tried and settings is choices[-1]):
                    raise
                print(f"passed over: {error}", flush=True)
        one.settings = min(tried, key=lambda each: each[0])[1]

    attempt_all(one.entry.choices)
    if one.entry.compiles:
        attempt_all([{**one.settings, "compile": True}])
    one.facts["tried"] = [{"seconds": round(seconds, 4), **each} for seconds, each in tried]
