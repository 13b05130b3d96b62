"""Trains on a text and generates: python examples/train_and_generate.py book.txt --budget 5m"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text", help="a file, a folder or a built-in corpus")
parser.add_argument("--budget", default="5m")
parser.add_argument("--out", default="runs/example")
arguments = parser.parse_args()

# The same call resumes an interrupted run; a finished run is loaded.
model = scriven.train(arguments.text, budget=arguments.budget, out=arguments.out)
results = model.results
print(f"\n{results['parameters']:,} parameters, {results['val_loss']:.3f} nats per token")
print(f"{results['ngram_order']}-gram baseline: {results['ngram_loss']:.3f}\n")

for temperature in (0.2, 0.8, 1.2):
    text = model.generate("The", max_new_tokens=100, temperature=temperature, seed=1)
    print(f"--- temperature {temperature}\n{text}\n")
print(f"the report is {results['run']}/report.html")
