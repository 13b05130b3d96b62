"""What the bag of words beside a head reaches by itself: the start of every fine-tuning for labels.

    python bench/tasks/data.py SHARED DATA
    python bench/tasks/words.py DATA/sst2 DATA/agnews DATA/sick-entail DATA/sick-similarity

For each folder with train.csv and test.csv: the score on the test part of the table fitted to the
train part, that of the fits without each row on the train part, and the processor time.
"""

import csv
import sys
import time
from array import array
from pathlib import Path

import torch

from scriven.tasks.shared.supervised import Example
from scriven.tasks.shared.word_features import feature_rows, table_rows
from scriven.train.bag_of_words import fit_bag

INPUTS = ("text", "premise", "hypothesis", "first", "second")
Rows = list[dict[str, str]]


def read(path: Path) -> Rows:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(outputs: torch.Tensor, truth: torch.Tensor) -> float:
    """The accuracy of (n, labels) outputs, or the Pearson correlation of (n, 1)."""
    if outputs.size(1) > 1:
        return float((outputs.argmax(1) == truth).float().mean())
    return float(torch.corrcoef(torch.stack([outputs[:, 0], truth]))[0, 1])


def measure(folder: Path) -> str:
    """One line."""
    began = time.process_time()
    train, test = read(folder / "train.csv"), read(folder / "test.csv")
    names = sorted({row["label"] for row in train}) if "label" in train[0] else []
    mean = 0.0 if names else sum(float(row["score"]) for row in train) / len(train)
    size = table_rows(len(names) or 1)

    def encode(rows: Rows) -> list[Example]:
        features = (feature_rows([row[n] for n in INPUTS if n in row], size) for row in rows)
        labels = [
            names.index(row["label"]) if names else float(row["score"]) - mean for row in rows
        ]
        return [
            Example((), label=label, features=array("i", found))
            for label, found in zip(labels, features, strict=True)
        ]

    known, asked = encode(train), encode(test)
    bag = fit_bag(known, size, len(names) or 1, "labels" if names else "numbers")
    seconds = time.process_time() - began
    answers = torch.stack([bag.table[list(each.features)].sum(0) for each in asked])
    truths = [torch.tensor([each.label for each in part]) for part in (asked, known)]
    return (
        f"{folder.name:16} test {score(answers, truths[0]):.3f}, "
        f"rows left out {score(bag.priors, truths[1]):.3f}, {seconds:.1f} s of processor time"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        print(measure(Path(name)), flush=True)
