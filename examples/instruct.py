"""Instruction tuning: pre-trains and fine-tunes a tiny model that answers questions about sums.

python examples/instruct.py
"""

import argparse
import csv
import random
from pathlib import Path

import scriven

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
FORMS = ["What is {a} plus {b}?", "Add {b} to {a}.", "How much are {a} and {b}?", "{a} and {b}?"]


def row(draw: random.Random) -> tuple[str, str]:
    """A random question and its answer."""
    a = draw.randrange(9)
    b = draw.randrange(11 - a)
    question = draw.choice(FORMS).format(a=NUMBERS[a], b=NUMBERS[b])
    return question, f"It is {NUMBERS[a + b]}."


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="300steps", help="budget of pre-training")
parser.add_argument("--budget", default="400steps", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=800)
parser.add_argument("--folder", default="runs/questions")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
texts = []
for _ in range(4000):
    a = draw.randrange(9)
    b = draw.randrange(11 - a)
    question = draw.choice(FORMS).format(a=NUMBERS[a], b=NUMBERS[b])
    texts.append(f"{question} {NUMBERS[a]} and {NUMBERS[b]}: It is {NUMBERS[a + b]}.")
(folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
    rows = [row(draw) for _ in range(arguments.rows)]
    csv.writer(file).writerows([("prompt", "completion"), *rows])

base = scriven.train(
    folder / "text.txt",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 32, "train.batch_size": 32},
    quiet=True,
)
model = base.finetune(
    folder / "questions.csv",
    budget=arguments.budget,
    out=folder / "model",
    settings={"train.batch_size": 32, "train.patience": 0},
    quiet=True,
)

for name, score in model.results["val_scores"].items():
    print(f"{name:<12} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")

questions = ["What is two plus three?", "Add one to six.", "How much are four and four?"]
for question, (answer, _) in zip(questions, model.predict(questions), strict=True):
    print(f"{question} {answer}")
