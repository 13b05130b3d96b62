"""Evaluates a model on local lm-evaluation-harness tasks, and lists its worst answers.

python examples/evaluate_with_harness.py runs/book examples/harness
"""

import argparse
import json
from pathlib import Path

import scriven
from scriven.evaluate.loglikelihood import LoglikelihoodScorer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run")
parser.add_argument("tasks", help="a folder with spelling.yaml and spelling.jsonl")
parser.add_argument("--limit", type=int, default=None, help="rows of each task")
arguments = parser.parse_args()

model = scriven.load(arguments.run)
results = model.harness(arguments.tasks, limit=arguments.limit)
for name, task in results["tasks"].items():
    for metric, score in task["metrics"].items():
        error = "" if score["stderr"] is None else f" ± {score['stderr']:.3f}"
        chance = "" if task["chance"] is None else f" (chance: {task['chance']:.3f})"
        print(f"{name:<10} {metric:<16} {score['value']:.3f}{error}{chance}")

# the same log-likelihoods without lm_eval: of each sentence with the right and the wrong word
lines = (Path(arguments.tasks) / "spelling.jsonl").read_text(encoding="utf-8").splitlines()
rows = [json.loads(line) for line in lines[: arguments.limit]]
scorer = LoglikelihoodScorer(model.task, model.tokenizer, model.runtime)
print("\nlog-likelihood of the right word minus that of the wrong one, in nats, worst first")
margins = []
for row in rows:
    right, wrong = row["choices"][row["answer"]], row["choices"][1 - row["answer"]]
    first, second = scorer.loglikelihood([(row["text"], f" {word}") for word in (right, wrong)])
    margins.append((first.nats - second.nats, f"{row['text']} {right} / {wrong}"))
for margin, text in sorted(margins)[:10]:
    print(f"{margin:8.2f}  {text}")
