"""Exports a run for another program, and shows that the exported model computes the same.

python examples/export_model.py runs/book --to hf
"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run")
parser.add_argument("--to", default="hf", help="hf, gguf, onnx or ctranslate2")
arguments = parser.parse_args()

result = scriven.export(arguments.run, to=arguments.to)
print("exported to", result["out"])
for name, size in result["files"].items():
    print(f"{size:>12,}  {name}")
if result["check"] is None:
    print(result["note"])
else:
    for name, value in result["check"].items():
        print(f"{name:<24}{value}")
