"""Similarity: pre-trains and fine-tunes a tiny model on sentence pairs generated from rules.

Synonyms count as equal (dog and hound), so word overlap alone cannot solve it.

python examples/similarity.py
"""

import argparse
import csv
import random
from pathlib import Path

import scriven

WHO = [["dog", "hound"], ["boat", "ship"], ["boy", "lad"], ["king", "monarch"], ["thief", "robber"]]
HOW = [["fast", "quick"], ["big", "large"], ["sad", "unhappy"], ["brave", "bold"], ["old", "aged"]]
WHERE = [["forest", "wood"], ["shop", "store"], ["street", "road"], ["sea", "ocean"]]


def row(draw: random.Random, match: float = 0.5) -> tuple[str, str, int]:
    """Two random sentences, and how many of who, how and where they share: 0 to 3."""
    first, second, score = [], [], 0
    for words in (HOW, WHO, WHERE):
        one, other = draw.sample(words, 2)
        if same := draw.random() < match:
            other = one
        score += same
        first.append(draw.choice(one))
        second.append(draw.choice(other))
    left, right = (f"the {how} {who} in the {where}" for how, who, where in (first, second))
    return left, right, score


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="300steps", help="budget of pre-training")
parser.add_argument("--budget", default="800steps", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=1500)
parser.add_argument("--folder", default="runs/similarity")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
# the pre-training text says everything twice, in synonyms, and has no scores
pairs = (row(draw, match=1.0) for _ in range(4000))
texts = [f"{first}, or {second}." for first, second, _ in pairs]
(folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
    rows = [row(draw) for _ in range(arguments.rows)]
    csv.writer(file).writerows([("first", "second", "score"), *rows])

base = scriven.train(
    folder / "text.txt",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 32, "train.batch_size": 32},
    quiet=True,
)
model = base.finetune(
    folder / "pairs.csv",
    budget=arguments.budget,
    out=folder / "model",
    settings={"optim.lr": 3e-3, "model.dropout": 0.0, "train.patience": 0},
    quiet=True,
)

results = model.results
for name, score in results["val_scores"].items():
    print(f"{name:<20} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")
    for baseline, each in results["baseline"].items():
        print(f"  {baseline:<18} {each['scores'][name]['value']:.3f}")

first = "the big dog in the forest"
pairs = [(first, "the large hound in the wood"), (first, "the sad king in the shop")]
for (_, second), (score, _) in zip(pairs, model.predict(pairs), strict=True):
    print(f"{score}  {first} | {second}")
