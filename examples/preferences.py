"""Preferences (DPO): pre-trains a tiny model, teaches it to answer, then to answer politely.

python examples/preferences.py
"""

import argparse
import json
import random
from pathlib import Path

import scriven

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
FORMS = ["What is {a} plus {b}?", "Add {b} to {a}.", "How much are {a} and {b}?", "{a} and {b}?"]


def row(draw: random.Random) -> tuple[str, str, str]:
    """A random question, a plain answer and a polite one."""
    a = draw.randrange(9)
    b = draw.randrange(11 - a)
    question = draw.choice(FORMS).format(a=NUMBERS[a], b=NUMBERS[b])
    return question, f"It is {NUMBERS[a + b]}.", f"With pleasure, it is {NUMBERS[a + b]}."


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """A table of JSON lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="300steps", help="budget of pre-training")
parser.add_argument("--budget", default="5epochs", help="budget of training on preferences")
parser.add_argument("--rows", type=int, default=400)
parser.add_argument("--folder", default="runs/polite")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
examples = [row(draw) for _ in range(3000)]
text = "\n".join(f"{ask} {draw.choice(answers)}" for ask, *answers in examples)
(folder / "text.txt").write_text(text, encoding="utf-8")
write(
    folder / "answers.jsonl",
    [{"prompt": ask, "completion": draw.choice(both)} for ask, *both in examples[:400]],
)
write(
    folder / "preferences.jsonl",
    [
        {"prompt": ask, "chosen": polite, "rejected": plain}
        for ask, plain, polite in (row(draw) for _ in range(arguments.rows))
    ],
)

base = scriven.train(
    folder / "text.txt",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 64, "train.batch_size": 32},
    quiet=True,
)
answering = base.finetune(
    folder / "answers.jsonl", budget=arguments.pretrain, out=folder / "answering", quiet=True
)
polite = answering.finetune(
    folder / "preferences.jsonl",
    budget=arguments.budget,
    out=folder / "model",
    settings={"optim.lr": 3e-4},
    quiet=True,
)

for name, score in polite.results["val_scores"].items():
    print(f"{name:<16} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")
for question in ["What is two plus three?", "Add one to six.", "How much are four and four?"]:
    before, after = (model.predict([question])[0][0] for model in (answering, polite))
    print(f"{question}\n  before: {before}\n  after:  {after}")
