"""`make torture`: kills and mutated files by the thousand, then a table."""

import argparse
import os
import tempfile
from pathlib import Path

from .kills import read_log, table, torture
from .mutations import Targets, try_mutants
from .scenarios import make_place

parser = argparse.ArgumentParser(prog="torture")
parser.add_argument("--kills", type=int, default=10_000)
parser.add_argument("--mutants", type=int, default=100_000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
parser.add_argument("--out", type=Path, default=Path("build/torture"))
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
log = given.out / f"kills-{given.seed}.jsonl"
wrong: list[str] = []
with tempfile.TemporaryDirectory() as folder:
    torture(Path(folder, "kills"), log, given.kills, given.seed, given.workers)
    print(table(log), flush=True)
    if given.mutants:
        targets = Targets(make_place(Path(folder, "place")), Path(folder))
        found, wrong = try_mutants(targets, given.mutants, given.seed)
        print(f"\n{given.mutants:,} mutated files, {len(wrong)} went wrong")
        for name, count in sorted(found.items()):
            print(f"{count:8,} {name}")
        print("\n".join(wrong))
problems = [each for each in read_log(log) if each["problem"] is not None]
raise SystemExit(bool(problems or wrong))
