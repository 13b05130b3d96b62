"""Measures the tasks of docs/results.md: pre-training, fine-tuning, and scores on the test part.

    python bench/tasks/data.py SHARED DATA
    python bench/tasks/measure.py sentiment DATA OUT --seed 0 --threads 2

Each row goes to bench/tasks/results.jsonl with its commands, seed, seconds, scores and intervals,
those of trivial baselines and, with `control`, those of the same model without pre-training and the
interval of their difference.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # bench/ is not a package

from recipes import RECIPES, Recipe
from rows import machine

import scriven
from scriven.evaluate.bootstrap import paired_difference

RESULTS = Path(__file__).with_name("results.jsonl")


def run(arguments: Sequence[str]) -> None:
    """Runs a command; one that has finished before prints its results again."""
    print("$ scriven " + shlex.join(arguments), flush=True)
    subprocess.run([sys.executable, "-m", "scriven", *arguments], check=True)


def measure(name: str, data: Path, out: Path, seed: int, threads: int) -> dict[str, Any]:
    """Measures one task; returns its row."""
    recipe = RECIPES[name]
    known = {"data": str(data), "out": str(out)}
    flags = [f"--seed={seed}", f"--runtime.threads={threads}", "--quiet"]
    base, tuned = out / f"{name}-{seed}-base", out / f"{name}-{seed}"
    middle = out / f"{name}-{seed}-between" if recipe.between else base
    first = ["train", *_words(recipe.pretrain, known), "--out", str(base), *flags]
    between = ["finetune", str(base), *_words(recipe.between, known), "--out", str(middle), *flags]
    second = ["finetune", str(middle), *_words(recipe.finetune, known), "--out", str(tuned), *flags]
    if recipe.control:
        second.append("--control")
    row: dict[str, Any] = {
        "task": name,
        "seed": seed,
        "threads": threads,
        "commands": commands(recipe, seed),
        **machine(),
    }
    run(first)
    if recipe.between:
        run(between)
        row["between_seconds"] = scriven.load(middle).results["seconds"]
    run(second)
    test = recipe.test.format(**known)
    model = scriven.load(tuned)
    results = model.results
    before = scriven.load(base).results
    row["pretrain_seconds"], row["pretrain_loss"] = before["seconds"], before["val_loss"]
    row["finetune_seconds"], row["val_loss"] = results["seconds"], results["val_loss"]
    row["parameters"] = results["parameters"]
    metrics = evaluate(model, test, recipe)
    row |= {key: metrics[key] for key in ("rows", "scores", "baseline")}
    if recipe.control:
        other = scriven.load(tuned / "control")
        row["control"] = evaluate(other, test, recipe)["scores"]
        gain = paired_difference(right(model, test), right(other, test))
        row["gain"] = gain.to_dict()
    return row


def commands(recipe: Recipe, seed: int) -> list[str]:
    """The commands of the row, with {data} for the folder of the tables."""
    base = "OUT/between" if recipe.between else "OUT/base"
    first = f"scriven finetune OUT/base {recipe.between} --seed={seed} --out OUT/between"
    return [
        f"scriven train {recipe.pretrain} --seed={seed} --out OUT/base",
        *([first] if recipe.between else []),
        f"scriven finetune {base} {recipe.finetune} --seed={seed} --out OUT/run",
        f"scriven evaluate OUT/run {recipe.test} {recipe.answer}".rstrip(),
    ]


def evaluate(model: scriven.Model, test: str, recipe: Recipe) -> dict[str, Any]:
    """Metrics on the test part."""
    words = iter(shlex.split(recipe.answer))
    pairs = dict(zip(words, words, strict=True))
    beam_search = {
        "beams": int(pairs.get("--beams", 1)),
        "length_penalty": float(pairs.get("--length-penalty", 1.0)),
    }
    return model.evaluate(test, **beam_search)


def right(model: scriven.Model, test: str) -> list[bool]:
    """Which rows of the test part a model predicts correctly."""
    correct = []
    for raw, answer in model.predict_table(test):
        truth = raw.get("label", raw.get("answer"))
        correct.append(truth in (answer.text, int(answer.value)))
    return correct


def _words(arguments: str, known: dict[str, str]) -> list[str]:
    return shlex.split(arguments.format(**known))


def main() -> None:
    """Measures the given task or all, and appends each row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task", choices=[*RECIPES, "all"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for name in RECIPES if args.task == "all" else [args.task]:
        row = measure(name, args.data, args.out, args.seed, args.threads)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row["scores"], indent=2), flush=True)


if __name__ == "__main__":
    main()
