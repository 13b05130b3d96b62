"""Validation loss after a wall-clock budget, as a whole process: import, preparation, training,
evaluation, report and all.

    python bench/time_to_loss.py tinyshakespeare.txt --budgets 1m 3m --seeds 1 2 3
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import machine, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--budgets", nargs="+", default=["1m", "3m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--tokenizer", default="char")
    asked = parser.parse_args()
    here = machine()
    for budget in asked.budgets:
        for seed in asked.seeds:
            with tempfile.TemporaryDirectory() as folder:
                command = [
                    sys.executable, "-m", "scriven", "train", asked.text, "--budget", budget,
                    "--tokenizer.kind", asked.tokenizer, "--seed", str(seed),
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
                here,
                text=Path(asked.text).name,
                tokenizer=asked.tokenizer,
                budget=budget,
                seed=seed,
                whole_process_seconds=round(whole, 1),
                **{name: result[name] for name in kept},
            )


if __name__ == "__main__":
    main()
