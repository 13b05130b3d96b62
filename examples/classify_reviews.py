"""Text classification: pre-trains and fine-tunes a tiny model on reviews generated from rules.

Each review says what was expected and what it is, in either order, so that single words do not
decide the label and a bag of words cannot solve it.

python examples/classify_reviews.py
"""

import argparse
import csv
import random
from pathlib import Path

import scriven

THINGS = ["film", "play", "book", "song", "story", "novel", "show", "poem", "opera", "tale"]
GOOD = ["lovely", "brilliant", "charming", "funny", "clever", "moving", "warm", "bold"]
BAD = ["dull", "awful", "boring", "clumsy", "silly", "empty", "cold", "flat"]


def review(draw: random.Random) -> tuple[str, str]:
    """A random review and its label."""
    good, negated = draw.random() < 0.5, draw.random() < 0.2
    thing, kind = draw.choice(THINGS), draw.choice(GOOD if good != negated else BAD)
    actual = f"{'not ' * negated}a very {kind} {thing}"
    expected = f"a very {draw.choice(GOOD + BAD)} {thing}"
    forms = [
        f"I expected {expected}, but it is {actual}.",
        f"It is {actual}, but I expected {expected}.",
    ]
    return draw.choice(forms), "good" if good else "bad"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="1500steps", help="budget of pre-training")
parser.add_argument("--budget", default="20epochs", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=1000)
parser.add_argument("--folder", default="runs/reviews")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)

# the pre-training text has no labels, but a sentence after each review that agrees with it
endings = {"good": " I loved it.", "bad": " I left early."}
texts = [(sentence + endings[label]) for sentence, label in (review(draw) for _ in range(4000))]
(folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
    rows = [review(draw) for _ in range(arguments.rows)]
    csv.writer(file).writerows([("text", "label"), *rows])

base = scriven.train(
    folder / "text.txt",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 32, "train.batch_size": 32},
    quiet=True,
)
critic = base.finetune(
    folder / "reviews.csv", budget=arguments.budget, out=folder / "critic", quiet=True
)

results = critic.results
for name, score in results["val_scores"].items():
    print(f"{name:<12} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")
    for baseline, each in results["baseline"].items():
        print(f"  {baseline:<12} {each['scores'][name]['value']:.3f}")

for sentence in (
    "I expected a very dull film, but it is a very lovely film.",
    "It is not a very funny show, but I expected a very clever show.",
):
    label, probability = critic.predict([sentence])[0]
    print(f"{label} ({probability:.1%})  {sentence}")
