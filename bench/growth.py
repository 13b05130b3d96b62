"""Time per training step from 1 to 100 million parameters, relative to its FLOPs.

    python bench/growth.py

Every size trains on the same number of tokens per step, interleaved. In a row, `against_best` is
the time per FLOP divided by that of the best size, and `growth` divided by that of the best smaller
size: 1 is proportional, less is cheaper.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import rows
import torch
from contest import Peer, interleave, summarise
from entries import PROGRAMS, ROOT

SHAPES = [(4, 4, 128), (6, 6, 192), (6, 6, 384), (8, 8, 512), (12, 10, 640), (12, 13, 832)]
"""Layers, heads, d_model: 0.8, 2.7, 10.6, 25, 60 and 100 million parameters."""
TINY = [(1, 2, 32), (2, 2, 64)]
VOCABULARY = 323


def main() -> None:
    args = _arguments()
    if args.results is not None:
        rows.RESULTS = args.results
    torch.set_num_threads(args.threads)
    machine_info = rows.machine()
    args.work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(PROGRAMS / "scriven_.py")]
    turns, about = {}, {}
    with ExitStack() as stack:
        for layers, heads, d_model in TINY if args.tiny else SHAPES:
            name = f"{layers}x{d_model}"
            log = args.work / f"growth-{name}.log"
            peer = stack.enter_context(Peer(name, command, log, args.threads))
            shape = {"layers": layers, "heads": heads, "d_model": d_model, "vocab_size": VOCABULARY}
            shape["context_length"] = args.context_length
            about[name] = peer.ask(
                "prepare_fresh", arch=args.arch, shape=shape, optimizer=args.optimizer,
                rows=max(1, args.tokens // args.context_length),
            )  # fmt: skip
            peer.ask("step", count=1)
            turns[name] = _turn(peer)
        found = interleave(turns, args.repeats)
    seconds = {name: summarise(values) for name, values in found.items()}
    each = {name: seconds[name]["median"] / about[name]["flops"] for name in found}
    best = float("inf")
    for name in found:
        growth, best = each[name] / best, min(best, each[name])
        gflop = about[name]["flops"] / 1e9
        rows.write(
            "growth", machine_info, shape=name, arch=args.arch, optimizer=args.optimizer,
            parameters=about[name]["parameters"], dtype=about[name]["dtype"],
            tokens=args.tokens, gflop=round(gflop, 1), seconds=seconds[name],
            gflops=round(gflop / seconds[name]["median"], 1), repeats=args.repeats,
            against_best=round(each[name] / min(each.values()), 3),
            growth=round(growth, 3) or None, seed=0,
            contest_threads=args.threads,
        )  # fmt: skip


def _turn(peer: Peer) -> Callable[[], float]:
    return lambda: float(peer.ask("step", count=1)["seconds"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="llama")
    parser.add_argument("--optimizer", default="adamw", choices=["adamw", "muon"])
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per step")
    parser.add_argument("--context-length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the program")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "side-by-side")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
