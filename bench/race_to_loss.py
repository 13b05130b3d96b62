"""Wall-clock time to a validation loss, whole process, against nanoGPT's recipes for characters.

    python bench/race_to_loss.py tinyshakespeare.txt --nanogpt ~/nanoGPT

- 1.88: its CPU recipe, run to its end, as in its README; 2,000 iterations.
- 1.4697: its recipe of 10.6 M parameters. Only its steps are timed: time per step times 1,750, the
  iteration with its lowest loss. Running it would take hours.

Ours: `scriven train --budget T` with the shortest T of a ladder at which every seed reaches the
loss, over the whole validation set; the time is that of the whole process. The two programs take
turns. nanoGPT's own losses are estimates from random windows; its checkpoint is evaluated as ours.
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
from contest import Peer, interleave, summarise
from entries import PEERS, ROOT, Setup
from inputs import BABY, TINY, call, encode, find_text, make_run, write_batches

STEPS_TO_BEST = 1750
LADDERS = {
    "1.88": [6, 8, 10, 13, 16, 20, 26, 35, 50, 70, 100, 140],
    "1.4697": [60, 80, 100, 130, 160, 200, 260, 350, 500, 700, 1000, 1400],
}
"""Budgets to try, in seconds."""


def train(
    text: Path, budget: str, seed: int, folder: Path, flags: Sequence[str] = ()
) -> tuple[float, dict[str, Any]]:
    """(seconds of the whole process, its results)."""
    command = [
        sys.executable, "-m", "scriven", "train", str(text), "--budget", budget, "--seed",
        str(seed), "--tokenizer.kind", "char", "--out", str(folder), "--json", "--quiet",
        *flags,
    ]  # fmt: skip
    began = time.perf_counter()
    output = call(command)
    return time.perf_counter() - began, json.loads(output)


class Ours:
    """Trains with a new seed at each turn, and keeps the results."""

    def __init__(self, text: Path, work: Path, flags: Sequence[str] = ()) -> None:
        self.text, self.work, self.flags, self.budget = text, work, flags, ""
        self.seed, self.results = 0, list[dict[str, Any]]()
        work.mkdir(parents=True, exist_ok=True)

    def begin(self, seconds: int) -> None:
        """Starts over with another budget."""
        self.budget, self.seed, self.results = f"{seconds}s", 0, []

    def turn(self) -> float:
        self.seed += 1
        stamp = f"{self.budget}-{self.seed}-{time.time_ns()}"
        seconds, result = train(self.text, self.budget, self.seed, self.work / stamp, self.flags)
        self.results.append(result)
        return seconds

    @property
    def losses(self) -> list[float]:
        return [float(result["val_loss"]) for result in self.results]


def race(
    target: str, ladder: list[int], ours: Ours, other: Callable[[], float] | None, repeats: int
) -> dict[str, list[float]] | None:
    """Tries budgets until one seed reaches the loss, then takes turns with the peer; tries the next
    budget if another seed misses it. None if no budget suffices."""
    theirs: list[float] = []  # the time of the peer does not depend on our budget
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
    args = _arguments()
    if args.results is not None:
        rows.RESULTS = args.results
    torch.set_num_threads(args.threads)
    text, work = find_text(args.text), args.work.absolute()
    machine_info = {**rows.machine(), "contest_threads": args.threads}
    ours = Ours(text, work / "time")
    for target in args.targets:
        ladder = args.ladder or LADDERS.get(target, LADDERS["1.4697"])
        with ExitStack() as stack:
            other = None if args.nanogpt is None else _nanogpt(stack, args, target, text, work)
            found = race(target, ladder, ours, other.turn if other else None, args.repeats)
        if found is None:
            print(f"{target} was not reached in {ladder[-1]} s: {ours.losses}")
            continue
        rows.write(
            f"time to {target}", machine_info, rival="scriven", target=target,
            seconds=summarise(found["scriven"]), losses=ours.losses,
            how=f"--budget {ours.budget}, {len(ours.losses)} seeds", repeats=args.repeats,
            seeds=list(range(1, len(ours.losses) + 1)), parameters=ours.results[-1]["parameters"],
            ratio_to_nanogpt=_ratio(found),
        )  # fmt: skip
        if other is not None:
            rows.write(
                f"time to {target}", machine_info, rival="nanoGPT", target=target,
                seconds=summarise(found["nanoGPT"]), repeats=len(found["nanoGPT"]), **other.facts(),
            )  # fmt: skip


def _ratio(found: dict[str, list[float]]) -> float | None:
    if not found["nanoGPT"]:
        return None
    return round(summarise(found["nanoGPT"])["median"] / summarise(found["scriven"])["median"], 2)


class Steps:
    """nanoGPT's 10.6 M recipe, from its time per step."""

    def __init__(self, peer: Peer, count: int) -> None:
        self.peer, self.count = peer, count

    def turn(self) -> float:
        result = self.peer.ask("step", count=self.count)
        return float(result["seconds"]) / self.count * STEPS_TO_BEST

    def facts(self) -> dict[str, Any]:
        return {"losses": [], "how": f"seconds per step × {STEPS_TO_BEST:,}", "seeds": [1]}


def _nanogpt(
    stack: ExitStack, args: argparse.Namespace, target: str, text: Path, work: Path
) -> "Steps | nanogpt_recipe.Recipe":
    """nanoGPT's side of the race to this loss."""
    setup = Setup(args.peers, args.nanogpt, compile=False)
    command = [*setup.peer_command("nanogpt.py"), str(args.nanogpt)]
    peer = stack.enter_context(Peer("nanoGPT", command, work / "nanoGPT.log", args.threads))
    if target == "1.88":
        place = work / "nanogpt-recipe"
        return nanogpt_recipe.Recipe(
            args.peers, args.nanogpt, text, place, peer, args.threads, args.iterations
        )
    shape = TINY if args.tiny else BABY
    run = make_run(shape, "gpt2", text, work)
    total = 64
    data = write_batches(
        encode(run, text), shape.context_length, total, 50, 1, 1, work / "time-batches"
    )
    micro = total if args.tiny else args.micro
    peer.ask("prepare", folder=str(run), data=str(data), micro=micro, dropout=0.2, seed=1)
    peer.ask("step", count=1)
    return Steps(peer, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--nanogpt", type=Path, help="a folder with nanoGPT's train.py")
    parser.add_argument(
        "--peers", type=Path, default=PEERS, help="the Python interpreter for nanoGPT"
    )
    parser.add_argument("--targets", nargs="+", default=["1.88", "1.4697"])
    parser.add_argument("--ladder", nargs="+", type=int, help="seconds to try instead")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--micro", type=int, default=64, help="nanoGPT's micro-batch size at 10.6 M"
    )
    parser.add_argument("--iterations", type=int, default=2000, help="of nanoGPT's CPU recipe")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to try the program")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "side-by-side")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
