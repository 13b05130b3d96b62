"""From a run to another program: writes it as a Hugging Face folder, and shows that it is the same.

python examples/take_a_model_out.py runs/book --to hf
"""

import argparse

import scriven

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run")
parser.add_argument("--to", default="hf", help="hf, gguf, onnx or ctranslate2")
arguments = parser.parse_args()

made = scriven.export(arguments.run, to=arguments.to)
print("written to", made["out"])
for name, size in made["files"].items():
    print(f"{size:>12,}  {name}")
if made["check"] is None:
    print(made["note"])
else:
    for name, value in made["check"].items():
        print(f"{name:<24}{value}")
