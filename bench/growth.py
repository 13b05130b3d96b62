"""The cost of growth: time of a training step from 1 to 100 million parameters, against the
arithmetic it does.

    python bench/growth.py

Every size trains on as many tokens a step; the sizes take turns. In a row, `against_best` is the
time per floating-point operation over that of the size that does best, and `growth` over that of
the smaller size that does best: 1 is proportional, less is cheaper than that.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import rows
import torch
from contest import Rival, interleave, summarise
from entries import PROGRAMS, ROOT

SHAPES = [(4, 4, 128), (6, 6, 192), (6, 6, 384), (8, 8, 512), (12, 10, 640), (12, 13, 832)]
"""Layers, heads, width: 0.8, 2.7, 10.6, 25, 60 and 100 million parameters."""
TINY = [(1, 2, 32), (2, 2, 64)]
VOCABULARY = 323


def main() -> None:
    asked = _arguments()
    if asked.results is not None:
        rows.RESULTS = asked.results
    torch.set_num_threads(asked.threads)
    here = rows.machine()
    asked.work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(PROGRAMS / "scriven_.py")]
    turns, about = {}, {}
    with ExitStack() as stack:
        for layers, heads, width in TINY if asked.tiny else SHAPES:
            name = f"{layers}x{width}"
            log = asked.work / f"growth-{name}.log"
            rival = stack.enter_context(Rival(name, command, log, asked.threads))
            shape = {"layers": layers, "heads": heads, "d_model": width, "vocab_size": VOCABULARY}
            shape["context_length"] = asked.context_length
            about[name] = rival.ask(
                "prepare_fresh", arch=asked.arch, shape=shape, optimizer=asked.optimizer,
                rows=max(1, asked.tokens // asked.context_length),
            )  # fmt: skip
            rival.ask("step", count=1)
            turns[name] = _turn(rival)
        found = interleave(turns, asked.repeats)
    seconds = {name: summarise(values) for name, values in found.items()}
    each = {name: seconds[name]["median"] / about[name]["flops"] for name in found}
    best = float("inf")
    for name in found:
        growth, best = each[name] / best, min(best, each[name])
        gflop = about[name]["flops"] / 1e9
        rows.write(
            "growth", here, shape=name, arch=asked.arch, optimizer=asked.optimizer,
            parameters=about[name]["parameters"], dtype=about[name]["dtype"],
            tokens=asked.tokens, gflop=round(gflop, 1), seconds=seconds[name],
            gflops=round(gflop / seconds[name]["median"], 1), repeats=asked.repeats,
            against_best=round(each[name] / min(each.values()), 3),
            growth=round(growth, 3) or None, seed=0,
            contest_threads=asked.threads,
        )  # fmt: skip


def _turn(rival: Rival) -> Callable[[], float]:
    return lambda: float(rival.ask("step", count=1)["seconds"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="llama")
    parser.add_argument("--optimizer", default="adamw", choices=["adamw", "muon"])
    parser.add_argument("--tokens", type=int, default=4096, help="of a step")
    parser.add_argument("--context-length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the program")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "side-by-side")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
