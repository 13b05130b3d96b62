"""Summarization: pre-trains and fine-tunes a tiny encoder-decoder that writes headlines.

The reports are generated from rules, with so many town names that the model has to copy them.

python examples/summarize.py
"""

import argparse
import csv
import random
from pathlib import Path

import scriven

STARTS = ["Bel", "Cor", "Dun", "El", "Far", "Gal", "Hol", "Kar", "Lin", "Mor", "Nor", "Pel"]
MIDDLES = ["", "an", "en", "ing", "er", "os"]
ENDS = ["bury", "dale", "ford", "gate", "ham", "mere", "stow", "ton", "wick", "worth"]
DEEDS = {
    "has opened a new bridge over the river": "opens bridge",
    "will raise its taxes next year": "to raise taxes",
    "won the final against a stronger team": "wins final",
    "was hit by heavy storms last night": "hit by storms",
    "is looking for two hundred nurses": "seeks nurses",
    "closed its old harbour for repairs": "closes harbour",
}
FIRST = ["The mayor told reporters on {day}:", "On {day} it was confirmed:", "News of {day}:"]
LAST = ["People in {other} were not surprised.", "{other} will follow.", "Nobody in {other} knew."]
DAYS = ["Monday", "Tuesday", "Thursday", "Friday"]


def row(draw: random.Random) -> tuple[str, str]:
    """A random report and its headline."""
    town, other = ("".join(map(draw.choice, (STARTS, MIDDLES, ENDS))) for _ in range(2))
    deed, day = draw.choice(sorted(DEEDS)), draw.choice(DAYS)
    first, last = draw.choice(FIRST).format(day=day), draw.choice(LAST).format(other=other)
    return f"{first} {town} {deed}. {last}", f"{town} {DEEDS[deed]}"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="150steps", help="budget of pre-training")
parser.add_argument("--budget", default="15epochs", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=1200)
parser.add_argument("--folder", default="runs/headlines")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
texts = [row(draw)[0] for _ in range(2000)]
(folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
with (folder / "news.csv").open("w", newline="", encoding="utf-8") as file:
    rows = [row(draw) for _ in range(arguments.rows)]
    csv.writer(file).writerows([("article", "headline"), *rows])

base = scriven.train(
    folder / "text.txt",
    arch="transformer",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={
        "tokenizer.kind": "bpe",
        "tokenizer.vocab_size": 500,
        "model.context_length": 64,
        "train.batch_size": 16,
    },
    quiet=True,
)
summarizer = base.finetune(
    folder / "news.csv", budget=arguments.budget, out=folder / "summarizer", quiet=True
)

results = summarizer.results
for name, score in results["val_scores"].items():
    print(f"{name:<12} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")
    for baseline, each in results["baseline"].items():
        if name in each["scores"]:
            print(f"  {baseline:<12} {each['scores'][name]['value']:.3f}")

report = (
    "On Friday it was confirmed: Lindale is looking for two hundred nurses. Norham will follow."
)
print(f"{report}\n-> {summarizer.predict([report], beams=4)[0][0]}")
