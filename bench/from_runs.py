"""Rows of bench/results.jsonl from finished runs, for those that were made one by one.

python bench/from_runs.py "five minutes each" runs/bench-tinyshakespeare/* --commit be1a6cb
"""

import argparse
from typing import Any

from rows import machine, write

from scriven.runs.folder import resolve
from scriven.runs.metadata import read_metadata

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("what", help="the name of the measurement")
parser.add_argument("runs", nargs="+")
parser.add_argument("--commit", required=True, help="the code that made the runs")
arguments = parser.parse_args()

here = {**machine(), "commit": arguments.commit}
for run in arguments.runs:
    record = read_metadata(resolve(run))
    results: dict[str, Any] = record["results"]
    settings = record["settings"]
    kept = ("val_loss", "val_bits_per_byte", "val_accuracy", "ngram_loss", "steps", "tokens")
    write(
        arguments.what,
        {**here, "threads": record["environment"]["threads"]},
        architecture=record["architecture"],
        measure=record.get("measure", "next token"),
        dtype=settings["runtime"]["dtype"],
        budget=settings["budget"],
        seed=settings["seed"],
        seconds=results["seconds"],
        tokens_per_second=results["tokens_per_second"],
        parameters=results["parameters"],
        model=record["model"],
        **{name: results[name] for name in kept},
    )
