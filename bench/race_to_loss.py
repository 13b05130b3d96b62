"""Wall-clock time to a validation loss, whole process, against nanoGPT's recipes for characters.

    python bench/race_to_loss.py tinyshakespeare.txt --nanogpt ~/nanoGPT

- 1.88: its recipe for a processor, run to its end, as its README gives it; 2,000 iterations.
- 1.4697: its recipe of 10.6 M parameters, of which only steps are timed: their time times 1,750,
  the iteration at which it is at its best. Running it would take hours.

Ours: `scriven train --budget T` with the shortest T of a ladder at which every seed reaches the
loss, measured over all of the held-out text; the time is that of the whole process. Both sides take
turns. nanoGPT's own losses are estimates from random windows; what it saved is measured like ours.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nanogpt_recipe
import rows
import torch
from contest import Rival, interleave, summarise
from entries import RIVALS, ROOT, House
from material import BABY, TINY, call, encode, find_text, make_run, write_batches

STEPS_TO_BEST = 1750
LADDERS = {
    "1.88": [6, 8, 10, 13, 16, 20, 26, 35, 50, 70, 100, 140],
    "1.4697": [60, 80, 100, 130, 160, 200, 260, 350, 500, 700, 1000, 1400],
}
"""Seconds to try."""


def train(
    text: Path, budget: str, seed: int, folder: Path, dials: Sequence[str] = ()
) -> tuple[float, dict[str, Any]]:
    """(seconds of the whole process, its results)."""
    command = [
        sys.executable, "-m", "scriven", "train", str(text), "--budget", budget, "--seed",
        str(seed), "--tokenizer.kind", "char", "--out", str(folder), "--json", "--quiet",
        *dials,
    ]  # fmt: skip
    began = time.perf_counter()
    told = call(command)
    return time.perf_counter() - began, json.loads(told)


class Ours:
    """A run with a new seed at each turn; remembers what it reached."""

    def __init__(self, text: Path, work: Path, dials: Sequence[str] = ()) -> None:
        self.text, self.work, self.dials, self.budget = text, work, dials, ""
        self.seed, self.results = 0, list[dict[str, Any]]()
        work.mkdir(parents=True, exist_ok=True)

    def begin(self, seconds: int) -> None:
        """Another budget: earlier results are of no account."""
        self.budget, self.seed, self.results = f"{seconds}s", 0, []

    def turn(self) -> float:
        self.seed += 1
        stamp = f"{self.budget}-{self.seed}-{time.time_ns()}"
        seconds, result = train(self.text, self.budget, self.seed, self.work / stamp, self.dials)
        self.results.append(result)
        return seconds

    @property
    def losses(self) -> list[float]:
        return [float(result["val_loss"]) for result in self.results]


def race(
    target: str, ladder: list[int], ours: Ours, other: Callable[[], float] | None, repeats: int
) -> dict[str, list[float]] | None:
    """Climbs until one seed reaches the loss, then takes turns with the other side; climbs on where
    another seed misses it. None where the ladder ends first."""
    theirs: list[float] = []  # what the other side does does not depend on our budget
    for seconds in ladder:
        ours.begin(seconds)
        first = ours.turn()
        if ours.losses[0] > float(target):
            continue
        turns: dict[str, Callable[[], float]] = {"scriven": ours.turn}
        if other is not None and len(theirs) < repeats - 1:
            turns["nanoGPT"] = other
        found = interleave(turns, repeats - 1)
        theirs += found.get("nanoGPT", [])
        if max(ours.losses) <= float(target):
            if other is not None:
                theirs.append(other())
            return {"scriven": [first, *found["scriven"]], "nanoGPT": theirs}
    return None


def main() -> None:
    asked = _arguments()
    if asked.results is not None:
        rows.RESULTS = asked.results
    torch.set_num_threads(asked.threads)
    text, work = find_text(asked.text), asked.work.absolute()
    here = {**rows.machine(), "contest_threads": asked.threads}
    ours = Ours(text, work / "time")
    for target in asked.targets:
        ladder = asked.ladder or LADDERS.get(target, LADDERS["1.4697"])
        with ExitStack() as stack:
            other = None if asked.nanogpt is None else _nanogpt(stack, asked, target, text, work)
            found = race(target, ladder, ours, other.turn if other else None, asked.repeats)
        if found is None:
            print(f"{target} was not reached in {ladder[-1]} s: {ours.losses}")
            continue
        rows.write(
            f"time to {target}", here, rival="scriven", target=target,
            seconds=summarise(found["scriven"]), losses=ours.losses,
            how=f"--budget {ours.budget}, {len(ours.losses)} seeds", repeats=asked.repeats,
            seeds=list(range(1, len(ours.losses) + 1)), parameters=ours.results[-1]["parameters"],
            ratio_to_nanogpt=_ratio(found),
        )  # fmt: skip
        if other is not None:
            rows.write(
                f"time to {target}", here, rival="nanoGPT", target=target,
                seconds=summarise(found["nanoGPT"]), repeats=len(found["nanoGPT"]), **other.facts(),
            )  # fmt: skip


def _ratio(found: dict[str, list[float]]) -> float | None:
    if not found["nanoGPT"]:
        return None
    return round(summarise(found["nanoGPT"])["median"] / summarise(found["scriven"])["median"], 2)


class Steps:
    """nanoGPT's 10.6 M recipe by the time of its steps."""

    def __init__(self, rival: Rival, count: int) -> None:
        self.rival, self.count = rival, count

    def turn(self) -> float:
        told = self.rival.ask("step", count=self.count)
        return float(told["seconds"]) / self.count * STEPS_TO_BEST

    def facts(self) -> dict[str, Any]:
        return {"losses": [], "how": f"seconds per step × {STEPS_TO_BEST:,}", "seeds": [1]}


def _nanogpt(
    stack: ExitStack, asked: argparse.Namespace, target: str, text: Path, work: Path
) -> "Steps | nanogpt_recipe.Recipe":
    """The other side of the race to this loss."""
    house = House(asked.rivals, asked.nanogpt, compile=False)
    command = [*house.theirs("nanogpt.py"), str(asked.nanogpt)]
    rival = stack.enter_context(Rival("nanoGPT", command, work / "nanoGPT.log", asked.threads))
    if target == "1.88":
        place = work / "nanogpt-recipe"
        return nanogpt_recipe.Recipe(
            asked.rivals, asked.nanogpt, text, place, rival, asked.threads, asked.iterations
        )
    shape = TINY if asked.tiny else BABY
    run = make_run(shape, "gpt2", text, work)
    total = 64
    data = write_batches(
        encode(run, text), shape.context_length, total, 50, 1, 1, work / "time-batches"
    )
    micro = total if asked.tiny else asked.micro
    rival.ask("prepare", folder=str(run), data=str(data), micro=micro, dropout=0.2, seed=1)
    rival.ask("step", count=1)
    return Steps(rival, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--nanogpt", type=Path, help="a folder with nanoGPT's train.py")
    parser.add_argument("--rivals", type=Path, default=RIVALS, help="its Python interpreter")
    parser.add_argument("--targets", nargs="+", default=["1.88", "1.4697"])
    parser.add_argument("--ladder", nargs="+", type=int, help="seconds to try instead")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro", type=int, default=64, help="nanoGPT's rows at once at 10.6 M")
    parser.add_argument("--iterations", type=int, default=2000, help="of its CPU recipe")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to try the program")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "side-by-side")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
