"""Data in memory: fine-tunes on a pandas frame, predicts one, and cross-validates as scikit-learn.

The rows are made here: letters of several people, who complain or thank. Those of one person stay
on one side of each split.

python examples/frames.py
"""

import argparse
import random

import pandas as pd
from sklearn.model_selection import GroupKFold, cross_val_score

import scriven
from scriven.sklearn import TextClassifier

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="200steps", help="budget of pre-training")
parser.add_argument("--budget", default="10epochs", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=600)
parser.add_argument("--folder", default="runs/letters")
arguments = parser.parse_args()

draw = random.Random(0)
OPENINGS = {"thanks": ["I was glad of", "We enjoyed", "My best thanks for"],
            "complaint": ["I was angry about", "We waited for", "I want to return"]}  # fmt: skip
THINGS = ["chair", "lamp", "book", "table", "clock"]
rows = [
    {
        "letter": f"{draw.choice(OPENINGS[kind])} the {draw.choice(THINGS)} of order {number}.",
        "kind": kind,
        "writer": f"{draw.choice('ABCDEFGHIJ')}. Smith",
    }
    for number, kind in enumerate(draw.choices(list(OPENINGS), [2, 1], k=arguments.rows))
]
frame = pd.DataFrame(rows)

# 1. a small model of the letters, from the column itself
base = scriven.train(
    frame["letter"],
    budget=arguments.pretrain,
    size="tiny",
    out=f"{arguments.folder}/base",
    settings={"tokenizer.kind": "word", "model.context_length": 32},
    quiet=True,
)

# 2. fine-tuned on the frame; no writer is in both parts of the split
reader = base.finetune(
    frame, task="classify", text="letter", label="kind", group="writer",
    budget=arguments.budget, out=f"{arguments.folder}/reader", quiet=True,
)  # fmt: skip
print("validation accuracy", reader.results["val_scores"]["accuracy"]["value"])

# 3. a frame comes back as a frame, with the answers in further columns
print(reader.predict(frame.head(4)).to_string())

# 4. the same as an estimator of scikit-learn
estimator = TextClassifier(base.folder, budget=arguments.budget)
scores = cross_val_score(
    estimator, frame["letter"], frame["kind"], groups=frame["writer"], cv=GroupKFold(2)
)
print("cross-validated accuracy", scores.mean())
