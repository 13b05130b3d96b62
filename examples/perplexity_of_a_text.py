"""Where a model is surprised by a text: the most and the least surprising lines.

python examples/perplexity_of_a_text.py runs/book other.txt
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
whole = model.evaluate(arguments.text)
print(f"perplexity {whole['perplexity']:.2f}, {whole['bits_per_byte']:.3f} bits per byte\n")

context = model.task.backbone.config.context_length
scored = []
lines = Path(arguments.text).read_text(encoding="utf-8").splitlines()
for line in dict.fromkeys(lines):  # each once
    ids = [model.tokenizer.eos, *model.tokenizer.encode(line)][: context + 1]
    if len(ids) < 3:
        continue
    tokens = torch.tensor([ids], device=model.runtime.device)
    with torch.inference_mode():
        logits = model.task.logits(model.task.backbone(tokens[:, :-1]))
    nats = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:])
    scored.append((float(nats), line))

scored.sort()
for title, rows in (
    ("least surprising", scored[: arguments.lines]),
    ("most surprising", scored[::-1][: arguments.lines]),
):
    print(f"--- {title} (nats per token)")
    for value, line in rows:
        print(f"{value:6.3f}  {line[:80]}")
