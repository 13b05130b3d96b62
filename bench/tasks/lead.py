"""The usual baseline of headlines: the first eight words of each text.

python bench/tasks/lead.py DATA
"""

import csv
import sys
from pathlib import Path

from scriven.evaluate.metrics.base import compute_metrics

WORDS = 8

if __name__ == "__main__":
    with (Path(sys.argv[1]) / "headlines" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    first = [" ".join(row["source"].split()[:WORDS]) for row in rows]
    print(*compute_metrics("texts", [row["target"] for row in rows], first), sep="\n")
