"""Two processes against one process with two threads: tokens per second at the same batch size.

    python bench/processes.py tinyshakespeare.txt

Both are the plain `scriven train` command, interleaved. Only the second half of the steps counts,
by the times in metrics.jsonl, so that start-up and evaluation do not matter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rows
import torch
from contest import interleave, ratios, summarise
from inputs import find_text

SHAPES = {
    "0.8M": ("--model.layers=4", "--model.heads=4", "--model.d_model=128"),
    "10.6M": ("--model.layers=6", "--model.heads=6", "--model.d_model=384"),
}
BATCH = {"0.8M": 32, "10.6M": 32}
"""Sequences of 256 characters per step."""


def rate(metrics: Path) -> float:
    """Tokens per second over the second half of a run's steps."""
    events = map(json.loads, metrics.read_text(encoding="utf-8").splitlines())
    steps = [event for event in events if event["event"] == "step"]
    first, last = steps[len(steps) // 2], steps[-1]
    tokens, seconds = (last[key] - first[key] for key in ("tokens", "seconds"))
    return float(tokens / seconds)


def train(text: Path, shape: str, steps: int, processes: int, mode: str) -> float:
    """Trains, and returns tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "-m",
            "scriven",
            "train",
            str(text),
            "--out",
            f"{folder}/run",
            *SHAPES[shape],
            "--model.context_length=256",
            "--tokenizer.kind=char",
            f"--train.batch_size={BATCH[shape]}",
            f"--budget={steps}steps",
            "--train.eval_interval=1000000",
            "--train.sample_seconds=0",
            "--train.log_seconds=0.01",
            "--runtime.compile=false",
            "--seed=1",
            "--quiet",
        ]
        command, environment = [sys.executable, *arguments], dict(os.environ)
        if processes > 1:
            start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            command = [sys.executable, *start, *arguments, f"--parallel={mode}"]
            environment["OMP_NUM_THREADS"] = "1"
        subprocess.run(command, check=True, env=environment, capture_output=True)
        return rate(Path(folder) / "run" / "metrics.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    text, machine_info = find_text(args.text), rows.machine()
    for shape in args.shapes:
        turns: dict[str, Callable[[], float]] = {}
        for name, processes, mode in (("threads", 1, ""), ("ddp", 2, "ddp"), ("fsdp", 2, "fsdp")):
            turns[name] = _turn(text, shape, args.steps, processes, mode)
        found = interleave(turns, args.repeats)
        against: dict[str, Any] = ratios(found, "threads")
        rows.write(
            "two processes against two threads", machine_info, shape=shape, steps=args.steps,
            tokens_per_second={name: summarise(values) for name, values in found.items()},
            ratio={name: round(value, 3) for name, value in against.items()},
            batch=BATCH[shape], contest_threads=torch.get_num_threads(), seed=1,
        )  # fmt: skip


def _turn(text: Path, shape: str, steps: int, processes: int, mode: str) -> Callable[[], float]:
    return lambda: train(text, shape, steps, processes, mode)


if __name__ == "__main__":
    main()
