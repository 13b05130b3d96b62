"""Fine-tuning without a single setting: what a user gets who types the two lines of the README.

    python bench/tasks/data.py SHARED DATA
    python bench/tasks/defaults.py DATA OUT sst2 agnews sick-entail sick-similarity --seeds 3
    python bench/tasks/defaults.py DATA OUT sst2 agnews sick-entail --base smollm2.gguf --budget 10m

For each set and seed: `scriven train text.txt --budget 3m` on the texts of the train part,
`scriven finetune` on its rows with the same budget (or, with --base, the second line alone), and
`scriven evaluate` once on the test part. Each row goes to bench/tasks/defaults.jsonl. Run nothing
beside it: the budget is by the clock.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # bench/ is not a package

from rows import machine

RESULTS = Path(__file__).with_name("defaults.jsonl")
NO_TEXT = ("label", "score")


def scriven(*words: str | Path) -> str:
    """What a command prints on standard output."""
    line = [sys.executable, "-m", "scriven", *map(str, words)]
    print("$ scriven " + " ".join(map(str, words)), flush=True)
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def texts(table: Path, out: Path) -> None:
    """The texts of a table, a line each: what somebody would pre-train on."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = [
            value for row in csv.DictReader(file) for name, value in row.items()
            if name not in NO_TEXT
        ]  # fmt: skip
    out.write_text("\n".join(dict.fromkeys(rows)) + "\n", encoding="utf-8")


def measure(folder: Path, out: Path, seed: int, budget: str, base: Path | None) -> dict[str, Any]:
    """One row."""
    out.mkdir(parents=True)
    table = folder / "train.csv"
    began = time.perf_counter()
    if base is None:
        texts(table, out / "text.txt")
        flags = ("--seed", str(seed), "--quiet")
        scriven("train", out / "text.txt", "--budget", budget, "--out", out / "base", *flags)
        base = out / "base"
    flags = ("--seed", str(seed), "--quiet", "--out", out / "tuned")
    scriven("finetune", base, table, "--budget", budget, *flags)
    seconds = time.perf_counter() - began
    found = json.loads(scriven("evaluate", out / "tuned", folder / "test.csv", "--json"))
    return {
        "set": folder.name, "seed": seed, "budget": budget, "base": base.name,
        "seconds": round(seconds), "evaluation": found, **machine(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--base", type=Path, help="start from this model")
    given = parser.parse_args()
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for name in given.sets:
            kind = "none" if given.base is None else given.base.stem
            out = given.out / f"{name}-{kind}-{seed}"
            row = measure(given.data / name, out, seed, given.budget, given.base)
            print(json.dumps(row), flush=True)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
