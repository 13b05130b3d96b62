"""A model that reads both sides of a gap: trains RoBERTa on a text and fills gaps in a line.

python examples/fill_gaps.py book.txt "She said <mask> to the <mask>." --budget 10m
"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("line", help="with <mask> where something is missing")
parser.add_argument("--budget", default="10m")
parser.add_argument("--size", default="tiny")
parser.add_argument("--out", default="runs/gaps")
arguments = parser.parse_args()

model = scriven.train(
    arguments.text,
    arch="roberta",
    budget=arguments.budget,
    size=arguments.size,
    out=arguments.out,
    settings={"tokenizer.kind": "word"},
)
line, guesses = model.fill(arguments.line)
print(line)
for guess in guesses:
    others = ", ".join(f"{text!r} {share:.0%}" for text, share in guess.likeliest)
    print(f"{guess.text!r}: {others}")
