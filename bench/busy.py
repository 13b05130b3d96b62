"""Training while the machine has other work: tokens a second beside processes that never rest.

    python bench/busy.py tinyshakespeare.txt

Threads that wait for each other by spinning lose whole time slices on a busy machine; how much is
left of the idle speed is what this measures. The two take turns, each a `scriven train` as a person
types it.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rows
from contest import interleave, ratios, summarise
from material import find_text
from processes import train


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that never rest."""
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
    asked = parser.parse_args()
    if asked.results is not None:
        rows.RESULTS = asked.results
    text, here = find_text(asked.text), rows.machine()

    def beside() -> float:
        with busy(asked.others):
            return train(text, "0.8M", asked.steps, 1, "")

    turns = {"idle": lambda: train(text, "0.8M", asked.steps, 1, ""), "busy": beside}
    found = interleave(turns, asked.repeats)
    rows.write(
        "training on a busy machine", here, others=asked.others, steps=asked.steps,
        tokens_per_second={name: summarise(values) for name, values in found.items()},
        kept=round(ratios(found, "idle")["busy"], 3), seed=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
