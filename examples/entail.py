"""Entailment: pre-trains and fine-tunes a tiny model on sentence pairs generated from rules.

python examples/entail.py
"""

import argparse
import csv
import random
from pathlib import Path

import scriven

KINDS = {
    "person": ["man", "woman", "boy", "girl", "child"],
    "animal": ["dog", "cat", "horse", "bird", "cow"],
}
DEEDS = ["eating", "sleeping", "running", "playing", "waiting", "jumping"]
PLACES = ["garden", "street", "park", "kitchen", "field"]


def row(draw: random.Random) -> tuple[str, str, str]:
    """A random premise, hypothesis and label."""
    kind, other = draw.sample(sorted(KINDS), 2)
    name, deed = draw.choice(KINDS[kind]), draw.choice(DEEDS)
    place, elsewhere = draw.sample(PLACES, 2)
    premise = f"a {name} is {deed} in the {place}"
    hypotheses = {
        "entailment": [f"a {kind} is {deed}", f"a {name} is in the {place}"],
        "contradiction": [f"no {kind} is {deed}", f"the {name} is in the {elsewhere}"],
        "neutral": [f"a {other} is {deed}", f"no {other} is {deed}", f"the {name} is old"],
    }
    label = draw.choice(sorted(hypotheses))
    return premise, draw.choice(hypotheses[label]), label


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="300steps", help="budget of pre-training")
parser.add_argument("--budget", default="20epochs", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=1500)
parser.add_argument("--folder", default="runs/entail")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
facts = [f"a {name} is a {kind}" for kind, names in KINDS.items() for name in names]
texts = [f"{row(draw)[0]}, {draw.choice(facts)}, {row(draw)[1]}." for _ in range(4000)]
(folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
    rows = [row(draw) for _ in range(arguments.rows)]
    csv.writer(file).writerows([("premise", "hypothesis", "label"), *rows])

base = scriven.train(
    folder / "text.txt",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 32, "train.batch_size": 32},
    quiet=True,
)
model = base.finetune(
    folder / "pairs.csv", budget=arguments.budget, out=folder / "model", quiet=True
)

results = model.results
for name, score in results["val_scores"].items():
    print(f"{name:<12} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")
    for baseline, each in results["baseline"].items():
        print(f"  {baseline:<12} {each['scores'][name]['value']:.3f}")

premise = "a girl is running in the park"
pairs = [(premise, "a person is running"), (premise, "the girl is in the kitchen")]
for (_, hypothesis), (label, probability) in zip(pairs, model.predict(pairs), strict=True):
    print(f"{label} ({probability:.1%})  {premise} -> {hypothesis}")
