"""Training on a busy machine: tokens per second beside busy-looping processes, and without them.

    python bench/busy_machine.py tinyshakespeare.txt

OpenMP threads that spin while they wait lose whole time slices on a busy machine; this measures
which fraction of the idle speed is left. Both are the plain `scriven train` command, interleaved.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rows
from contest import interleave, ratios, summarise
from inputs import find_text
from processes import train


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Runs `count` busy-looping processes."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--others", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    text, machine_info = find_text(args.text), rows.machine()

    def beside() -> float:
        with busy(args.others):
            return train(text, "0.8M", args.steps, 1, "")

    turns = {"idle": lambda: train(text, "0.8M", args.steps, 1, ""), "busy": beside}
    found = interleave(turns, args.repeats)
    rows.write(
        "training on a busy machine", machine_info, others=args.others, steps=args.steps,
        tokens_per_second={name: summarise(values) for name, values in found.items()},
        kept=round(ratios(found, "idle")["busy"], 3), seed=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
