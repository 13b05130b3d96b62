"""Trains, then trains longer: python examples/train_longer.py book.txt --budget 5m --more +10m"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text", help="a file, a folder or a built-in corpus")
parser.add_argument("--budget", default="5m")
parser.add_argument("--more", default="+10m", help="what the budget grows by, in any unit")
parser.add_argument("--out", default="runs/longer")
arguments = parser.parse_args()

first = scriven.train(arguments.text, budget=arguments.budget, out=arguments.out).results
# Goes on from the last state before the learning rate fell, and lets it fall again at the new end.
longer = scriven.train(resume=arguments.out, budget=arguments.more).results
for name, results in (("at first", first), ("longer", longer)):
    print(f"{name}: {results['steps']:,} steps, {results['val_loss']:.3f} nats per token")
better = (
    "better" if longer["val_loss"] < first["val_loss"] else "no better, so the first model stays"
)
print(f"the longer training was {better}: {longer['run']}/report.html shows both branches")
