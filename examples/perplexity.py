"""Perplexity of a text, and its lines with the lowest and the highest loss.

python examples/perplexity.py runs/book other.txt
"""

import argparse
from pathlib import Path

import torch

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run")
parser.add_argument("text")
parser.add_argument("--lines", type=int, default=5)
arguments = parser.parse_args()

model = scriven.load(arguments.run)
metrics = model.evaluate(arguments.text)
print(f"perplexity {metrics['perplexity']:.2f}, {metrics['bits_per_byte']:.3f} bits per byte\n")

context = model.task.backbone.config.context_length
scored = []
lines = Path(arguments.text).read_text(encoding="utf-8").splitlines()
for line in dict.fromkeys(lines):  # each distinct line once
    # ids 0 .. T-1 predict ids 1 .. T, the first from the end-of-text token
    ids = [model.tokenizer.eos, *model.tokenizer.encode(line)][: context + 1]
    if len(ids) < 3:
        continue
    tokens = torch.tensor([ids], device=model.runtime.device)  # (1, T + 1)
    with torch.inference_mode():
        logits = model.task.logits(model.task.backbone(tokens[:, :-1]))  # (1, T, V)
    nats = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:])
    scored.append((float(nats), line))

scored.sort()
for title, rows in (
    ("lowest loss", scored[: arguments.lines]),
    ("highest loss", scored[::-1][: arguments.lines]),
):
    print(f"--- {title} (nats per token)")
    for value, line in rows:
        print(f"{value:6.3f}  {line[:80]}")
