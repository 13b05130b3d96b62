"""Training steps and writing against nanoGPT, transformers, LitGPT, llama.cpp and CTranslate2, in
one run: A B A B, two threads each, only one of them running at a time.

    make bench-env
    python bench/side_by_side.py tinyshakespeare.txt --nanogpt ~/nanoGPT
    python bench/side_by_side.py tinyshakespeare.txt --nanogpt ~/nanoGPT --short

Each figure is a row of bench/results.jsonl; `python bench/table.py` shows them. Exits with 1 where
a rival failed a gate. docs/benchmarks.md says what is fair here and what is not.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import rows
import table
import torch
import training_race
import writing_race
from entries import RIVALS, ROOT, House
from material import BABY, SMALL, TINY, Shape, find_text


def main() -> int:
    asked = _arguments()
    if asked.results is not None:
        rows.RESULTS = asked.results
    torch.set_num_threads(asked.threads)
    text, work = find_text(asked.text), asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    quick = asked.short or asked.tiny
    compile = asked.compile or not (quick or asked.eager)
    house = House(asked.rivals, asked.nanogpt, compile)
    here = rows.machine()
    made: list[dict[str, Any]] = []
    failures: list[str] = []
    common = {"text": text, "work": work, "here": here}
    if asked.only in (None, "training"):
        terms = _training_terms(asked, quick)
        for arch, dropout in [("gpt2", 0.0), ("gpt2", 0.2), ("llama", 0.0)]:
            if (asked.short and dropout) or asked.arch not in (None, arch):
                continue
            shape = TINY if asked.tiny else BABY
            found = training_race.race(house, shape, arch, dropout, terms, **common)
            made, failures = made + found[0], failures + found[1]
    if asked.only != "training":
        for shape, arch, dtype, together in _writing_contests(asked):
            wanted = (asked.shape, shape.name), (asked.arch, arch), (asked.bits, dtype)
            if any(name not in (None, own) for name, own in wanted):
                continue
            if asked.only not in (None, "together" if together else "writing"):
                continue
            race_terms = _writing_terms(asked, shape, quick, together)
            found = writing_race.race(house, shape, arch, dtype, race_terms, **common)
            made, failures = made + found[0], failures + found[1]
    print("\n" + table.contests(made))
    for sentence in failures:
        print(f"OUT: {sentence}")
    return 1 if failures else 0


def _training_terms(asked: argparse.Namespace, quick: bool) -> training_race.Terms:
    """An update is of 64 windows, as nanoGPT's recipe has it; fewer where time is short."""
    total = 8 if quick else 64
    return training_race.Terms(
        rows=total, micro=[total] if quick else [64, 16, 8], gate_steps=3 if quick else 5,
        steps=1, repeats=asked.repeats or (3 if asked.short else 5), windows=8,
        threads=asked.threads, seed=asked.seed,
    )  # fmt: skip


def _writing_contests(asked: argparse.Namespace) -> list[tuple[Shape, str, str, bool]]:
    """(shape, architecture, precision, many prompts at once)."""
    if asked.tiny:
        one = [(TINY, arch, "float32", False) for arch in ("gpt2", "llama")]
        return [*one, (TINY, "gpt2", "bfloat16", False), (TINY, "gpt2", "int8", False),
                (TINY, "gpt2", "float32", True)]  # fmt: skip
    if asked.short:
        return [(BABY, "gpt2", "float32", False), (BABY, "gpt2", "float32", True)]
    found = [
        (shape, arch, dtype, False)
        for shape in (BABY, SMALL)
        for arch in ("gpt2", "llama")
        for dtype in ("float32", "bfloat16", "int8")
    ]
    return found + [(BABY, "gpt2", dtype, True) for dtype in ("float32", "bfloat16")]


def _writing_terms(
    asked: argparse.Namespace, shape: Shape, quick: bool, together: bool
) -> writing_race.Terms:
    room = shape.context_length - 16
    tokens = min(room, 48 if quick else 240 if shape is not SMALL else 128)
    repeats = asked.repeats or (3 if asked.short else 5)
    plain = {"repeats": repeats, "threads": asked.threads, "seed": asked.seed}
    if together:
        tokens = min(tokens, shape.context_length - 40)
        return writing_race.Terms(tokens, least=8, most=40, count=32, **plain)
    return writing_race.Terms(tokens, **plain)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--nanogpt", type=Path, help="a folder with nanoGPT's model.py")
    parser.add_argument("--rivals", type=Path, default=RIVALS, help="their Python interpreter")
    parser.add_argument(
        "--only", choices=["training", "writing", "together"], help="together: 32 prompts at once"
    )
    parser.add_argument("--arch", help="gpt2 or llama; both by default")
    parser.add_argument("--short", action="store_true", help="about two minutes")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the programs")
    parser.add_argument("--compile", action="store_true", help="torch.compile in a short run too")
    parser.add_argument("--eager", action="store_true", help="no torch.compile at all")
    parser.add_argument("--shape", help="of the models that write: 10.6M or 124M; both by default")
    parser.add_argument("--bits", help="of the models that write: float32, bfloat16 or int8")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--threads", type=int, default=2, help="of each contestant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "side-by-side")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
