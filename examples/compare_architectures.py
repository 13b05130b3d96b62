"""Compares architectures at equal wall-clock budgets, with two seeds each.

python examples/compare_architectures.py book.txt --budget 2m
"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--arch", default="llama,gpt2,rnn", help="names, separated by commas")
parser.add_argument("--budget", default="2m")
parser.add_argument("--size", default="small")
parser.add_argument("--out", default="runs/comparison")
arguments = parser.parse_args()

table = scriven.bench(
    arguments.text,
    arch=arguments.arch.split(","),
    budget=arguments.budget,
    seeds=2,
    size=arguments.size,
    out=arguments.out,
)
print(table.text(width=100))
