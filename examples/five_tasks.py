"""Five tasks on one small model: a number, several labels, tags, answers and a ranking, each on a
table that is generated from rules.

python examples/five_tasks.py
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import scriven

NAMES = ["Ada", "Ben", "Cleo", "Dora", "Emil"]
THINGS = {"apple": "fruit", "pear": "fruit", "dog": "animal", "cat": "animal", "cup": "tool"}
TOWNS = ["Paris", "Austin", "Sydney"]  # names of persons too
COLOURS = ["red", "green", "blue"]
NUMBERS = ["one", "two", "three", "four"]


def sentence(draw: random.Random) -> tuple[str, str, str, int, str]:
    """A sentence, and its name, colour, number and thing."""
    name, colour = draw.choice(NAMES), draw.choice(COLOURS)
    number, thing = draw.randrange(len(NUMBERS)), draw.choice([*THINGS])
    return f"{name} has {NUMBERS[number]} {colour} {thing}s", name, colour, number, thing


def row(task: str, draw: random.Random) -> dict[str, Any]:
    """A row of a table for a task."""
    text, name, colour, number, thing = sentence(draw)
    if task == "regression":
        # what a number is worth depends on a word that stands apart from it
        return {"text": text, "score": (number + 1) * (-1 if thing in ("apple", "pear") else 1)}
    if task == "multilabel":
        return {"text": text, "labels": [THINGS[thing], *["many"] * (number > 1)]}
    if task == "tag":
        # the same name is that of a person or of a town, which the words after it tell
        town = draw.random() < 0.5
        words = ["is", "cold", "in", "May"] if town else text.split()[1:]
        tags = ["B-TOWN", "O", "O", "O", "O"] if town else ["B-PER", "O", "O", "B-THING", "I-THING"]
        return {"tokens": [draw.choice(TOWNS), *words], "tags": tags}
    others = [sentence(draw)[0] for _ in range(2)]
    if task == "answer":
        others = [each for each in others if name not in each]
        answers = [{"text": colour, "answer_start": text.index(colour)}]
        return {"context": ". ".join([text, *others]), "question": f"What colour has {name}?",
                "answers": answers}  # fmt: skip
    documents = [text, *others]
    # rows of one query stay in one part of the table, so there are many
    query = f"{draw.choice(NAMES)} asks {name} who has {draw.choice(['most', 'least'])}"
    counts = [NUMBERS.index(each.split()[2]) for each in documents]
    grades = counts if query.endswith("most") else [len(NUMBERS) - 1 - each for each in counts]
    return {"query": query, "documents": documents, "relevance": grades}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pretrain", default="200steps", help="budget of pre-training")
parser.add_argument("--budget", default="300steps", help="budget of each fine-tuning")
parser.add_argument("--rows", type=int, default=1000)
parser.add_argument("--tasks", default="regression,multilabel,tag,answer,rank")
parser.add_argument("--folder", default="runs/five-tasks")
arguments = parser.parse_args()

folder, draw = Path(arguments.folder), random.Random(0)
folder.mkdir(parents=True, exist_ok=True)
text = ".\n".join(sentence(draw)[0] for _ in range(3000))
text += ".\n" + ".\n".join(" ".join(row("tag", draw)["tokens"]) for _ in range(1000))
(folder / "text.txt").write_text(text, encoding="utf-8")
base = scriven.train(
    folder / "text.txt",
    budget=arguments.pretrain,
    size="tiny",
    out=folder / "base",
    settings={"tokenizer.kind": "word", "model.context_length": 64, "train.batch_size": 16},
    quiet=True,
)
asked: dict[str, Any] = {
    "regression": "Ada has three red cups",
    "multilabel": "Ada has three red dogs",
    "tag": "Paris is cold in May",
    "answer": ("Ada has two blue cups. Ben has one red dog", "What colour has Ben?"),
    "rank": ("Ada asks Ben who has least", ["Ada has two blue cups", "Ben has one red dog"]),
}
for task in arguments.tasks.split(","):
    table = folder / f"{task}.jsonl"
    rows = (json.dumps(row(task, draw)) for _ in range(arguments.rows))
    table.write_text("\n".join(rows), encoding="utf-8")
    model = base.finetune(
        table,
        budget=arguments.budget,
        out=folder / task,
        settings={"optim.lr": 3e-3, "train.batch_size": 16},
        quiet=True,
    )
    results = model.results
    name = results["main_score"]
    beside = {one: each["scores"][name]["value"] for one, each in results["baseline"].items()}
    score = results["val_scores"][name]
    ((answer, _),) = model.predict([asked[task]])
    print(
        f"{task:<11}{name} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]", end="  "
    )
    print(", ".join(f"{one} {value:.3f}" for one, value in beside.items()), "|", answer)
