"""Multiple choice: pre-trains a tiny model on facts and fine-tunes it on questions.

The facts are in the pre-training text; fine-tuning teaches the model to choose.

python examples/multiple_choice.py
"""

import argparse
import json
import random
from pathlib import Path

import scriven

FACTS = {
    "baker": "bread", "smith": "swords", "tailor": "coats", "cooper": "barrels", "potter": "jugs",
    "brewer": "beer", "weaver": "cloth", "miller": "flour", "cobbler": "shoes", "joiner": "tables",
    "farmer": "cheese", "fisher": "nets",
}  # fmt: skip
CONTEXTS = [
    "the {who} in the {place} makes",
    "I was at the {who} in the {place} and brought home",
    "who has to do with the {place}? the {who}, who sells",
]
PLACES = ["market", "street", "village", "harbour", "square"]


def row(draw: random.Random) -> dict[str, object]:
    """A random context, four choices, and the index of the right one."""
    who = draw.choice(sorted(FACTS))
    wrong = draw.sample(sorted(set(FACTS.values()) - {FACTS[who]}), 3)
    choices = draw.sample([FACTS[who], *wrong], 4)
    context = draw.choice(CONTEXTS).format(who=who, place=draw.choice(PLACES))
    return {"context": context, "choices": choices, "answer": choices.index(FACTS[who])}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="300steps", help="budget of pre-training")
parser.add_argument("--budget", default="300steps", help="budget of fine-tuning")
parser.add_argument("--rows", type=int, default=400)
parser.add_argument("--folder", default="runs/choice")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
texts = []
for _ in range(4000):
    who, what = draw.choice(list(FACTS.items()))
    texts.append(f"{draw.choice(CONTEXTS).format(who=who, place=draw.choice(PLACES))} {what}.")
(folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
lines = [json.dumps(row(draw)) for _ in range(arguments.rows)]
(folder / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")

base = scriven.train(
    folder / "text.txt",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 32, "train.batch_size": 32},
    quiet=True,
)
model = base.finetune(
    folder / "questions.jsonl",
    budget=arguments.budget,
    out=folder / "model",
    settings={"optim.lr": 3e-3, "model.dropout": 0.0, "train.patience": 0},
    quiet=True,
)

results = model.results
score = results["val_scores"]["accuracy"]
print(f"accuracy {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}], chance 0.250")
for baseline, each in results["baseline"].items():
    print(f"  {baseline} {each['scores']['accuracy']['value']:.3f}")

questions = [
    ("the cooper in the harbour makes", ["bread", "barrels", "nets"]),
    ("I was at the miller in the square and brought home", ["flour", "swords"]),
]
for (context, choices), (answer, probability) in zip(
    questions, model.predict(questions), strict=True
):
    print(f"{context} {answer} ({probability:.1%} of {len(choices)})")
