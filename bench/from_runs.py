"""Adds finished runs to bench/results.jsonl.

python bench/from_runs.py "five minutes each" runs/bench-tinyshakespeare/* --commit be1a6cb
"""

import argparse
from typing import Any

from rows import machine, write

from scriven.runs.folder import find_run
from scriven.runs.metadata import read_metadata

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("what", help="the name of the measurement")
parser.add_argument("runs", nargs="+")
parser.add_argument("--commit", required=True, help="the code that trained the runs")
arguments = parser.parse_args()

machine_info = {**machine(), "commit": arguments.commit}
for run in arguments.runs:
    record = read_metadata(find_run(run))
    results: dict[str, Any] = record["results"]
    settings = record["settings"]
    names = ("val_loss", "val_bits_per_byte", "val_accuracy", "ngram_loss", "steps", "tokens")
    write(
        arguments.what,
        {**machine_info, "threads": record["environment"]["threads"]},
        architecture=record["architecture"],
        measure=record.get("measure", "next token"),
        dtype=settings["runtime"]["dtype"],
        budget=settings["budget"],
        seed=settings["seed"],
        seconds=results["seconds"],
        tokens_per_second=results["tokens_per_second"],
        parameters=results["parameters"],
        model=record["model"],
        **{name: results[name] for name in names},
    )
