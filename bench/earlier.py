"""The default small model beside an earlier version of this project, in turns: the training step,
and one stream of generated text.

    git worktree add ../earlier f3cb499     # with its own virtual environment in .venv
    python bench/earlier.py ../earlier tinyshakespeare.txt

Each turn is a new process. Of a training the second half of its steps counts, of full context
length; a text is drawn at temperature 0.8 from a model that was trained for some steps, and the
first text of a process does not count.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import rows
from contest import interleave, ratios, summarise

HERE = Path(__file__).parents[1]
COMPILE = """
from scriven.native.library import SOURCES, load_library
for name in SOURCES:
    load_library(True, name)
"""
"""What a first text would do in the background."""
NAMES = {
    "context_length": "context", "batch_size": "batch", "initial_context_length": "first_context",
    "eval_interval": "evaluate_every", "sample_seconds": "sample_every", "log_seconds": "log_every",
}  # fmt: skip
"""Settings of today by their names at f3cb499."""
SETTINGS = {
    "model.layers": 4, "model.heads": 4, "model.context_length": 512, "train.batch_size": 4,
    "train.initial_context_length": 512, "train.eval_interval": 1_000_000,
    "train.sample_seconds": 0, "train.log_seconds": 0.01,
}  # fmt: skip
"""What a training of three minutes chooses, but without shorter sequences at its beginning."""
GENERATE = """
import sys, time, scriven
model = scriven.load(sys.argv[1])
for count in (100, int(sys.argv[2])):
    began = time.perf_counter()
    text = model.generate("The ", max_new_tokens=count, temperature=0.8, seed=1)
    seconds = time.perf_counter() - began
print((len(text) - 4) / seconds)  # a token is a character; the end of the text may come before
"""


def train(checkout: Path, text: Path, steps: int, run: Path, *, earlier: bool) -> float:
    """Seconds of a step."""
    flags = []
    for setting, value in SETTINGS.items():
        section, name = setting.split(".")
        flags.append(f"--{section}.{NAMES.get(name, name) if earlier else name}={value}")
    call(
        checkout, "-m", "scriven", "train", str(text), "--out", str(run), "--seed=1", "--quiet",
        "--tokenizer.kind=char", f"--budget={steps}steps", *flags,
    )  # fmt: skip
    events = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    seen = [event for event in events if event["event"] == "step"]
    first, last = seen[len(seen) // 2], seen[-1]
    return float((last["seconds"] - first["seconds"]) / (last["step"] - first["step"]))


def call(checkout: Path, *arguments: str) -> str:
    """The output of a version's Python."""
    done = subprocess.run(
        [str(checkout / ".venv/bin/python"), *arguments], cwd=checkout, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.stdout


def main() -> None:
    """Measures, and writes a row for each of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="of the earlier version")
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("training", "generation"))
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    asked = parser.parse_args()
    if asked.results is not None:
        rows.RESULTS = asked.results
    machine, text = rows.machine(), asked.text.resolve()
    versions = {"now": HERE, "earlier": asked.checkout.resolve()}
    commit = subprocess.run(
        ["git", "-C", str(asked.checkout), "rev-parse", "--short", "HEAD"], check=True,
        stdout=subprocess.PIPE, text=True,
    ).stdout.strip()  # fmt: skip
    call(HERE, "-c", COMPILE)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)

        def turn(name: str, run: str = "") -> Callable[[], float]:
            def step() -> float:
                with tempfile.TemporaryDirectory(dir=work) as own:
                    place = work / run if run else Path(own) / "run"
                    return train(versions[name], text, asked.steps, place, earlier=name != "now")

            return step

        if asked.only != "generation":
            found = interleave({name: turn(name) for name in versions}, asked.repeats)
            rows.write(
                "training step beside an earlier version", machine, earlier=commit,
                milliseconds={
                    name: {kind: round(value * 1e3, 1) for kind, value in summarise(each).items()}
                    for name, each in found.items()
                },
                speedup=round(ratios(found, "now")["earlier"], 3), steps=asked.steps,
                repeats=asked.repeats, seed=1,
            )  # fmt: skip
        if asked.only != "training":
            for name in versions:
                turn(name, name)()
            found = interleave(
                {
                    name: lambda name=name: float(  # type: ignore[misc]
                        call(versions[name], "-c", GENERATE, str(work / name), str(asked.tokens))
                    )
                    for name in versions
                },
                asked.repeats,
            )
            rows.write(
                "one stream beside an earlier version", machine, earlier=commit,
                tokens_per_second={
                    name: {kind: round(value) for kind, value in summarise(each).items()}
                    for name, each in found.items()
                },
                speedup=round(1 / ratios(found, "now")["earlier"], 3), tokens=asked.tokens,
                repeats=asked.repeats, seed=1,
            )  # fmt: skip


if __name__ == "__main__":
    main()
