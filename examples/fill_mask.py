"""Masked language modelling: trains a RoBERTa on a text and predicts the masked words of a line.

python examples/fill_mask.py book.txt "She said <mask> to the <mask>." --budget 10m
"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("line", help="a text with <mask> for each missing word")
parser.add_argument("--budget", default="10m")
parser.add_argument("--size", default="tiny")
parser.add_argument("--out", default="runs/fill-mask")
arguments = parser.parse_args()

model = scriven.train(
    arguments.text,
    arch="roberta",
    budget=arguments.budget,
    size=arguments.size,
    out=arguments.out,
    settings={"tokenizer.kind": "word"},
)
line, predictions = model.fill(arguments.line)
print(line)
for prediction in predictions:
    others = ", ".join(f"{text!r} {probability:.0%}" for text, probability in prediction.likeliest)
    print(f"{prediction.text!r}: {others}")
