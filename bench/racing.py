"""The steps of every contest: start the entries, find the best settings of each, drop those that
fail a gate, and let the others take turns."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contest import Peer, PeerFailed
from entries import OURS, Entry
from gates import GateFailed


@dataclass
class Contestant:
    """A running entry, its settings and facts."""

    entry: Entry
    peer: Peer
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """For its row: parameters, versions, results of the gates, settings that were tried."""


@dataclass
class Contest:
    """The contestants that passed so far; ours is the first."""

    stack: ExitStack
    field: list[Contestant]
    failures: list[str]

    @property
    def ours(self) -> Contestant:
        assert self.field and self.field[0].entry.name == OURS, "ours comes first and never fails"
        return self.field[0]

    def each(self, work: Callable[[Contestant], None]) -> None:
        """Calls `work` with every contestant; one that fails, or fails a gate, is removed.

        Raises:
            PeerFailed, GateFailed: if that one is ours.
        """
        for one in list(self.field):
            try:
                work(one)
            except (PeerFailed, GateFailed) as error:
                if one is self.field[0]:
                    raise
                print(f"OUT: {error}", flush=True)
                self.failures.append(str(error))
                self.field.remove(one)
                one.peer.close()


def enter(stack: ExitStack, entries: Iterable[Entry], work: Path, threads: int) -> Contest:
    """Starts all entries; they are stopped until their first request."""
    found = []
    for entry in entries:
        log = work / f"{entry.name.replace(', ', '-')}.log"
        peer = Peer(entry.name, entry.command, log, threads, entry.environment)
        found.append(Contestant(entry, stack.enter_context(peer)))
    return Contest(stack, found, [])


def prepare(one: Contestant, run: Path, **request: Any) -> None:
    """Prepares with the chosen settings; parameters, versions and dtype go into its row."""
    folder = str(one.entry.folder or run)
    answer = one.peer.ask("prepare", folder=folder, **{**request, **one.settings})
    one.facts.update({name: answer[name] for name in ("parameters", "versions", "dtype")})
    if answer.get("system"):
        one.facts["system"] = answer["system"]


def choose(one: Contestant, attempt: Callable[[Contestant], float]) -> None:
    """Tries each of its settings, then the fastest with torch.compile if the entry compiles, and
    keeps the fastest; does nothing if there is only one choice.

    Args:
        attempt: prepares with `one.settings` and returns seconds.

    Raises:
        PeerFailed: no settings work.
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
            except PeerFailed as error:
                if one.peer.process.poll() is not None or (not tried and settings is choices[-1]):
                    raise
                print(f"skipped: {error}", flush=True)
        one.settings = min(tried, key=lambda each: each[0])[1]

    attempt_all(one.entry.choices)
    if one.entry.compiles:
        plain = {name: each for name, each in one.settings.items() if name != "native"}
        attempt_all([{**plain, "compile": True}])
    one.facts["tried"] = [{"seconds": round(seconds, 4), **each} for seconds, each in tried]
