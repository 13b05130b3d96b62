"""Which architecture learns a text best in the same number of steps?

Two seeds each, since one run is one sample:
python examples/compare_architectures.py book.txt --steps 500
"""

import argparse
from statistics import mean

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--steps", type=int, default=500)
parser.add_argument("--size", default="small")
parser.add_argument("--out", default="runs/comparison")
arguments = parser.parse_args()

for arch in ("llama", "gpt2"):
    found = []
    for seed in (1, 2):
        model = scriven.train(
            arguments.text,
            arch=arch,
            size=arguments.size,
            seed=seed,
            budget=f"{arguments.steps}steps",
            out=f"{arguments.out}/{arch}-{seed}",
            quiet=True,
        )
        found.append(model.results)
    losses = [each["val_loss"] for each in found]
    print(
        f"{arch:<8}{found[0]['parameters']:>12,} parameters   "
        f"loss {mean(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})   "
        f"{mean(each['seconds'] for each in found):.0f} s"
    )
print(f"counting {found[0]['ngram_order']}-grams: {found[0]['ngram_loss']:.3f}")
