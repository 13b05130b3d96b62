"""Kills and disk errors at random moments of every kind of work, and a table of what came of it.

A chain is one piece of work that is hit until it has been killed a few times, looked at after each
hit, and then done once more undisturbed: its result must be that of work that was never disturbed.
Work that ends in spite of a hit is compared too, and begins anew. Chains follow from a seed and are
written down as they end, so a stopped torture continues.

Everything runs in forks of a process with one thread: a lock that another thread holds at the
moment of a fork would stay locked in the child for ever.
"""

import contextlib
import errno
import faulthandler
import gc
import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runs.faults import calls, leftovers
from scriven import files
from scriven.errors import ScrivenError

from .scenarios import SCENARIOS, Scenario, make_place, prepare_process

KILLS = 4
"""Of each chain, at least where there are enough hits."""
HITS = 20
"""Of each chain, at most."""
LEFT = "temporary files are left"
PATIENCE = 400.0
"""Seconds after which work counts as hanging."""
REFUSED, CRASHED = 3, 70
FAULTS = ("time", "kill", "half", "full", "broken", "once")
"""Killed after some time; killed at a disk call, or in the middle of a write; a disk that is full
or broken from a call on, or once."""


class Process:
    """A fork that does something; its text is what it raised or, of an action that returns one,
    what it returned."""

    def __init__(self, action: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        self.id = os.fork()
        if self.id == 0:
            status = CRASHED
            try:
                os.close(reading)
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                null = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(null, stream)
                faulthandler.register(signal.SIGUSR1, file=writing)
                answer = action()
                if isinstance(answer, str):
                    os.write(writing, answer.encode())
                status = 0
            except ScrivenError as error:
                status = REFUSED
                os.write(writing, str(error).encode()[:4000])
            except BaseException:
                os.write(writing, traceback.format_exc().encode()[-8000:])
            finally:
                os._exit(status)
        os.close(writing)
        self.pipe = os.fdopen(reading, "rb")

    def end(self, after: float | None = None) -> tuple[int | str, str]:
        """(exit status, minus the signal, or "hangs"; text); killed `after` so many seconds."""
        wait = PATIENCE if after is None else after
        ended = bool(select.select([self.pipe], [], [], wait)[0])
        if not ended:
            if after is None:  # where it hangs
                os.kill(self.id, signal.SIGUSR1)
                time.sleep(1)
            os.kill(self.id, signal.SIGKILL)
        with self.pipe:
            text = self.pipe.read().decode(errors="replace")
        status = os.waitstatus_to_exitcode(os.waitpid(self.id, 0)[1])
        return ("hangs" if not ended and after is None else status), text


def hit(kind: str, number: int, action: Callable[[], object]) -> None:
    """Does something with a fault at its n-th disk call."""
    write, kinds = os.write, list[str]()

    def before(now: int, name: str, arguments: tuple[Any, ...]) -> None:
        if now == number and kind in ("kill", "half"):
            if kind == "half" and name == "write" and not isinstance(arguments[1], str):
                data = memoryview(arguments[1]).cast("B")
                write(arguments[0], data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        if name in ("unlink", "rmdir"):  # what is left over is removed later
            return
        if now == number:
            kinds.append(name)
        if (now == number and kind == "once") or (now >= number and kind in ("full", "broken")):
            code = errno.ENOSPC if kind == "full" else errno.EIO
            raise OSError(code, os.strerror(code))

    with calls(before):
        action()


class Torture:
    """Chains in a folder.

    Args:
        folder: for inputs and work.
        names: of scenarios.
    """

    def __init__(self, folder: Path, names: Sequence[str] = tuple(SCENARIOS)) -> None:
        self.folder, self.names = folder, names
        folder.mkdir(parents=True, exist_ok=True)
        self.place = folder / "place"
        _in_fork(lambda: make_place(self.place))
        prepare_process(self.place)
        self.expected: dict[str, object] = {}
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        for name in names:
            for _ in range(2):  # the second time everything is imported
                shutil.rmtree(folder / "straight", ignore_errors=True)
                (folder / "straight").mkdir()
                found = _in_fork(lambda name=name: self._straight(name, folder / "straight"))
                self.seconds[name], self.calls[name], modules = json.loads(found)
                for module in modules:
                    with contextlib.suppress(ImportError):
                        importlib.import_module(module)
            self.expected[name] = SCENARIOS[name].result(folder / "straight")
        gc.collect()
        gc.freeze()  # a collection in a fork would look at, and so copy, all that is imported here

    def _straight(self, name: str, out: Path) -> str:
        """Undisturbed work: its seconds, its disk calls, and the modules it has imported."""
        before = set(sys.modules)
        SCENARIOS[name].setup(self.place, out)
        began = time.monotonic()
        with calls(lambda *_: None) as made:
            SCENARIOS[name].work(self.place, out)
        new = [each for each in sys.modules if each not in before and each != "__main__"]
        return json.dumps([time.monotonic() - began, len(made), new])

    def chain(self, number: int, seed: int) -> dict[str, Any]:
        """One chain; `problem` is None, or what went wrong."""
        # what a killed process left stays while another process has its number: try once more
        found = self._chain(number, seed)
        if LEFT in str(found["problem"]):
            shutil.rmtree(self.folder / f"chain-{number}")
            found = self._chain(number, seed)
        return found

    def _chain(self, number: int, seed: int) -> dict[str, Any]:
        name = self.names[number % len(self.names)]
        chance = random.Random(f"{seed}/{number}")
        out = self.folder / f"chain-{number}"
        self._set_up(name, out)
        hits: list[list[Any]] = []
        problem = None
        try:
            self._hit_and_finish(name, chance, out, hits)
            shutil.rmtree(out)
        except Exception:  # everything is written down, with what there is to look at
            problem = traceback.format_exc()[-4000:]
        return {"chain": number, "seed": seed, "scenario": name, "hits": hits, "problem": problem}

    def _hit_and_finish(
        self, name: str, chance: random.Random, out: Path, hits: list[list[Any]]
    ) -> None:
        scenario, kills = SCENARIOS[name], 0
        left = self.calls[name]  # about so many disk calls are still to be made
        before: Any = scenario.check(out) if name in ("predict", "export") else None
        while kills < KILLS and len(hits) < HITS:
            kind = chance.choice(FAULTS)
            at = chance.randint(1, max(left, 10))
            after = chance.uniform(0, 1.2 * self.seconds[name]) if kind == "time" else None

            def work(kind: str = kind, at: int = at) -> None:
                if kind == "time":
                    scenario.work(self.place, out)
                else:
                    hit(kind, at, lambda: scenario.work(self.place, out))

            status, text = Process(work).end(after)
            hits.append([kind, round(after, 4) if after is not None else at, status])
            assert status in (0, REFUSED, -signal.SIGKILL), f"{status} at {hits[-1]}: {text}"
            assert status != REFUSED or kind in ("full", "broken", "once"), f"{hits[-1]}: {text}"
            assert "\n" not in text, text
            now: Any = scenario.check(out)
            assert before is None or now >= before, f"{before} became {now}"
            before = now
            if status == -signal.SIGKILL:
                kills, left = kills + 1, left - (0 if kind == "time" else at)
            elif status == 0:  # what comes now would hit nothing
                self._compare(scenario, name, out)
                shutil.rmtree(out)
                self._set_up(name, out)
                left = self.calls[name]
                before = scenario.check(out) if name in ("predict", "export") else None
        status, text = Process(lambda: scenario.work(self.place, out)).end()
        assert status == 0, f"{status} in the undisturbed end: {text}"
        self._compare(scenario, name, out)
        left = leftovers(out)
        assert not left, f"{LEFT}: {left}"

    def _set_up(self, name: str, out: Path) -> None:
        out.mkdir()
        SCENARIOS[name].setup(self.place, out)

    def _compare(self, scenario: Scenario, name: str, out: Path) -> None:
        found = scenario.result(out)
        assert found == self.expected[name], f"{found} is not {self.expected[name]}"


def _in_fork(action: Callable[[], object]) -> str:
    status, text = Process(action).end()
    assert status == 0, f"{status}: {text}"
    return text


def _check_threads() -> None:
    threads = Path("/proc/self/task")  # Linux: those of libraries too
    assert not threads.exists() or len(list(threads.iterdir())) == 1, "several threads, and forks"


def torture(folder: Path, log: Path, kills: int, seed: int, workers: int) -> None:
    """Does chains until there are about so many kills in the log, which is continued."""
    files.RETRY_WAITS = (0.001, 0.002, 0.003)  # as many attempts at less time
    done = list(read_log(log))
    chains = {each["chain"] for each in done}
    wanted = -(-kills // KILLS)
    todo = [number for number in range(wanted) if number not in chains]
    random.Random(seed).shuffle(todo)  # each worker does every kind of work
    made = Torture(folder)
    children = []
    for worker in range(workers):
        process = os.fork()
        if process == 0:
            with contextlib.suppress(KeyboardInterrupt):
                for number in todo[worker::workers]:
                    _check_threads()
                    line = json.dumps(made.chain(number, seed)) + "\n"
                    with log.open("a") as file:
                        file.write(line)
            os._exit(0)
        children.append(process)
    for process in children:
        os.waitpid(process, 0)


def read_log(log: Path) -> Iterator[dict[str, Any]]:
    """Chains that were written down; a half line of a killed torture is left out."""
    if log.exists():
        for line in log.read_text().split("\n"):
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def table(log: Path) -> str:
    """Hits by scenario and kind, with what went wrong."""
    chains = list(read_log(log))
    lines = [f"| work | chains | {' | '.join(FAULTS)} | all | wrong |", "|---" * 10 + "|"]
    total = 0
    for name in SCENARIOS:
        own = [each for each in chains if each["scenario"] == name]
        kinds = Counter(kind for each in own for kind, *_ in each["hits"])
        wrong = sum(each["problem"] is not None for each in own)
        total += kinds.total()
        counts = " | ".join(str(kinds[kind]) for kind in FAULTS)
        lines.append(f"| {name} | {len(own)} | {counts} | {kinds.total()} | {wrong} |")
    killed = sum(status == -9 for each in chains for *_, status in each["hits"])
    wrong = [each for each in chains if each["problem"] is not None]
    lines.append(
        f"\n{total:,} faults, of which {killed:,} ended a process; {len(wrong)} chains went wrong"
    )
    lines += [f"chain {each['chain']} ({each['scenario']}): {each['problem']}" for each in wrong]
    return "\n".join(lines)
