"""Trains a model on a second text: python examples/go_on.py first.txt second.txt --budget 5m"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("first", help="the text that the model learns from nothing")
parser.add_argument("second", help="the text that it goes on with")
parser.add_argument("--budget", default="5m", help="of each training")
parser.add_argument("--lora", type=int, default=0, help="rank of LoRA adapters; 0: all weights")
parser.add_argument("--out", default="runs/first")
arguments = parser.parse_args()

settings = {"finetune.weights": "full"}
if arguments.lora:
    settings = {"finetune.weights": "lora", "finetune.lora_rank": arguments.lora}
first = scriven.train(arguments.first, budget=arguments.budget, out=arguments.out)
second = first.train(
    arguments.second, budget=arguments.budget, out=f"{arguments.out}-second", settings=settings
)
results = second.results
print(
    f"bits per byte of {arguments.second}: {results['base_val_bits_per_byte']:.3f} before,", end=" "
)
print(f"{results['val_bits_per_byte']:.3f} after; of {arguments.first}", end=" ")
if "old_bits_per_byte" in results:
    print(f"{results['old_bits_per_byte_before']:.3f} before,", end=" ")
    print(f"{results['old_bits_per_byte']:.3f} after")
print(second.generate("The", max_new_tokens=100, seed=1))
