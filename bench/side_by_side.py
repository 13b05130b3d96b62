"""Training steps and generation beside nanoGPT, transformers, LitGPT, llama.cpp and CTranslate2 in
one run: interleaved A B A B, two threads each, only one program running at a time.

    make bench-env
    python bench/side_by_side.py tinyshakespeare.txt --nanogpt ~/nanoGPT
    python bench/side_by_side.py tinyshakespeare.txt --nanogpt ~/nanoGPT --short

Each figure is a row of bench/results.jsonl; `python bench/table.py` shows them. Exits with 1 where
a peer failed a gate. docs/benchmarks.md says what is fair here and what is not.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import generation_race
import rows
import table
import torch
import training_race
from entries import PEERS, ROOT, Setup
from inputs import BABY, SMALL, TINY, Shape, find_text


def main() -> int:
    args = _arguments()
    if args.results is not None:
        rows.RESULTS = args.results
    torch.set_num_threads(args.threads)
    text, work = find_text(args.text), args.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    quick = args.short or args.tiny
    compile = args.compile or not (quick or args.eager)
    setup = Setup(args.peers, args.nanogpt, compile)
    machine_info = rows.machine()
    made: list[dict[str, Any]] = []
    failures: list[str] = []
    common = {"text": text, "work": work, "machine_info": machine_info}
    if args.only in (None, "training"):
        terms = _training_terms(args, quick)
        for arch, dropout in [("gpt2", 0.0), ("gpt2", 0.2), ("llama", 0.0)]:
            if (args.short and dropout) or args.arch not in (None, arch):
                continue
            shape = TINY if args.tiny else BABY
            found = training_race.race(setup, shape, arch, dropout, terms, **common)
            made, failures = made + found[0], failures + found[1]
    if args.only != "training":
        for shape, arch, dtype, together in _generation_contests(args):
            wanted = (args.shape, shape.name), (args.arch, arch), (args.bits, dtype)
            if any(name not in (None, own) for name, own in wanted):
                continue
            if args.only not in (None, "together" if together else "writing"):
                continue
            race_terms = _generation_terms(args, shape, quick, together)
            found = generation_race.race(setup, shape, arch, dtype, race_terms, **common)
            made, failures = made + found[0], failures + found[1]
    print("\n" + table.contests(made))
    for sentence in failures:
        print(f"OUT: {sentence}")
    return 1 if failures else 0


def _training_terms(args: argparse.Namespace, quick: bool) -> training_race.Terms:
    """A step has 64 sequences, as in nanoGPT's recipe; fewer in a short run."""
    total = 8 if quick else 64
    return training_race.Terms(
        rows=total, micro=[total] if quick else [64, 16, 8], gate_steps=3 if quick else 5,
        steps=1, repeats=args.repeats or (3 if args.short else 5), windows=8,
        threads=args.threads, seed=args.seed,
    )  # fmt: skip


def _generation_contests(args: argparse.Namespace) -> list[tuple[Shape, str, str, bool]]:
    """(shape, architecture, precision, whether prompts are batched)."""
    if args.tiny:
        one = [(TINY, arch, "float32", False) for arch in ("gpt2", "llama")]
        return [*one, (TINY, "gpt2", "bfloat16", False), (TINY, "gpt2", "int8", False),
                (TINY, "gpt2", "float32", True)]  # fmt: skip
    if args.short:
        return [(BABY, "gpt2", "float32", False), (BABY, "gpt2", "float32", True)]
    found = [
        (shape, arch, dtype, False)
        for shape in (BABY, SMALL)
        for arch in ("gpt2", "llama")
        for dtype in ("float32", "bfloat16", "int8")
    ]
    return found + [(BABY, "gpt2", dtype, True) for dtype in ("float32", "bfloat16")]


def _generation_terms(
    args: argparse.Namespace, shape: Shape, quick: bool, together: bool
) -> generation_race.Terms:
    longest = shape.context_length - 16
    tokens = min(longest, 48 if quick else 240 if shape is not SMALL else 128)
    repeats = args.repeats or (3 if args.short else 5)
    plain = {"repeats": repeats, "threads": args.threads, "seed": args.seed}
    if together:
        tokens = min(tokens, shape.context_length - 40)
        return generation_race.Terms(tokens, least=8, most=40, count=32, **plain)
    return generation_race.Terms(tokens, **plain)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--nanogpt", type=Path, help="a folder with nanoGPT's model.py")
    parser.add_argument(
        "--peers", type=Path, default=PEERS, help="the Python interpreter of the peers"
    )
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
