"""Translation: pre-trains and fine-tunes a tiny encoder-decoder from German to English.

The sentences come from a small grammar, with other word orders in the two languages.

python examples/translate.py
"""

import argparse
import csv
import random
from pathlib import Path

import scriven

WHO = {
    "Der Hund": "The dog", "Die Katze": "The cat", "Das Kind": "The child", "Der Mann": "The man",
    "Die Frau": "The woman", "Das Pferd": "The horse",
}  # fmt: skip
WHAT = {
    "sieht {} nicht": "does not see {}", "sucht {}": "is looking for {}", "ruft {} an": "calls {}",
    "hat {} gesehen": "has seen {}", "will {} suchen": "wants to look for {}",
}  # fmt: skip
WHOM = {
    "einen Vogel": "a bird", "eine Maus": "a mouse", "ein Boot": "a boat", "den Bruder":
    "the brother", "die Schwester": "the sister", "das Haus": "the house",
}  # fmt: skip
WHEN = {"Heute": "today", "Morgens": "in the morning", "Im Winter": "in winter"}


def row(draw: random.Random) -> tuple[str, str]:
    """A random sentence in German and in English."""
    who, what, whom = (draw.choice(sorted(words)) for words in (WHO, WHAT, WHOM))
    source, target = f"{who} {what.format(whom)}.", f"{WHO[who]} {WHAT[what].format(WHOM[whom])}"
    if draw.random() < 0.5:
        return source, f"{target}."
    when, (verb, rest) = draw.choice(sorted(WHEN)), what.format(whom).split(" ", 1)
    return f"{when} {verb} {who[:1].lower()}{who[1:]} {rest}.", f"{target} {WHEN[when]}."


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="300steps", help="budget of pre-training")
parser.add_argument("--budget", default="20epochs", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=1200)
parser.add_argument("--folder", default="runs/translate")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
texts = [draw.choice(row(draw)) for _ in range(3000)]
(folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
    rows = [row(draw) for _ in range(arguments.rows)]
    csv.writer(file).writerows([("source", "target"), *rows])

base = scriven.train(
    folder / "text.txt",
    arch="transformer",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 32, "train.batch_size": 32},
    quiet=True,
)
translator = base.finetune(
    folder / "pairs.csv",
    task="translate",
    budget=arguments.budget,
    out=folder / "translator",
    quiet=True,
)

results = translator.results
for name, score in results["val_scores"].items():
    print(f"{name:<12} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")
    for baseline, each in results["baseline"].items():
        if name in each["scores"]:
            print(f"  {baseline:<12} {each['scores'][name]['value']:.3f}")

sources = ["Heute will die Katze eine Maus suchen.", "Der Mann ruft die Schwester an."]
for source, (target, _) in zip(sources, translator.predict(sources, beams=4), strict=True):
    print(f"{source}\n-> {target}")
