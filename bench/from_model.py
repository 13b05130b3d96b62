"""What going on from a model is worth: bits per byte of the held-out text before and after so many
steps of `scriven train TEXT --from MODEL`, with the CPU seconds of the whole command.

    python bench/from_model.py model.gguf book.txt letters.txt --steps 24
    python bench/from_model.py model.gguf book.txt --steps 24 --old news.txt --set optim.lr=2e-3

By steps, not by the clock, so that a busy machine gives the same figures; --old is a text that the
model should not forget, two fifths of each batch (--share).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--characters", type=int, help="of each text, from its beginning")
    parser.add_argument("--old", type=Path)
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--set", nargs="*", default=[], help="settings, such as optim.lr=1e-3")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    machine = rows.machine()
    for text in args.texts:
        with tempfile.TemporaryDirectory() as folder:
            figures = adapted(args, text, Path(folder))
        rows.write(
            "from model", machine, model=args.model.name, text=text.name, steps=args.steps,
            characters=args.characters, settings=args.set, **figures,
        )  # fmt: skip


def adapted(args: argparse.Namespace, text: Path, folder: Path) -> dict[str, float]:
    """One training, from the command to its results."""
    part = folder / text.name
    part.write_text(text.read_text(encoding="utf-8")[: args.characters], encoding="utf-8")
    command = [sys.executable, "-m", "scriven", "train", str(part), "--from", str(args.model)]
    command += ["--budget", f"{args.steps}steps", "--out", str(folder / "run"), "--quiet", "--json"]
    # evaluated at the end alone
    command += [f"--train.eval_interval={args.steps}", *(f"--{each}" for each in args.set)]
    command += [] if args.old is None else ["--replay", f"{args.old}:{args.share}"]
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    results = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before, after = results["base_val_bits_per_byte"], results["val_bits_per_byte"]
    figures = {
        "before": before, "after": after, "better": 1 - after / before,
        "val_tokens": results["val_tokens"], "train_tokens": results["tokens"],
        "cpu_seconds": used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime,
    }  # fmt: skip
    if args.old is not None:
        figures["old_before"] = results["old_bits_per_byte_before"]
        figures["old_after"] = results["old_bits_per_byte"]
    return {name: round(value, 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
