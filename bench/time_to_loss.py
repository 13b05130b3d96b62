"""Validation loss after a wall-clock budget, of the whole process: import, preparation, training,
evaluation and report.

    python bench/time_to_loss.py tinyshakespeare.txt --budgets 1m 3m --seeds 1 2 3
    python bench/time_to_loss.py tinyshakespeare.txt book.txt --budgets 3m --archs llama rnn

Architectures take turns within each seed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from rows import machine, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*", default=["tinyshakespeare"])
    parser.add_argument("--budgets", nargs="+", default=["1m", "3m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--archs", nargs="+", default=["llama"])
    parser.add_argument("--tokenizer", default="char")
    args = parser.parse_args()
    machine_info = machine()
    for budget, text, seed, arch in product(args.budgets, args.texts, args.seeds, args.archs):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable, "-m", "scriven", "train", text, "--budget", budget,
                "--arch", arch, "--tokenizer.kind", args.tokenizer, "--seed", str(seed),
                "--out", str(Path(folder) / "run"), "--json", "--quiet",
            ]  # fmt: skip
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            whole = time.perf_counter() - began
        result = json.loads(done.stdout)
        kept = ("val_loss", "val_bits_per_byte", "val_accuracy", "ngram_loss", "steps",
                "tokens", "tokens_per_second", "parameters", "best_step")  # fmt: skip
        write(
            "time to loss",
            machine_info,
            text=Path(text).name,
            arch=arch,
            tokenizer=args.tokenizer,
            budget=budget,
            seed=seed,
            whole_process_seconds=round(whole, 1),
            **{name: result[name] for name in kept},
        )


if __name__ == "__main__":
    main()
