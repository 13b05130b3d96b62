"""What guesses are worth: writing with and without them, greedy and drawn, alone and 32 at once.

    scriven train tinyshakespeare.txt --budget 1m --out run
    python bench/guesses.py run tinyshakespeare.txt

The prompts are pieces of the last tenth of the text. With and without take turns.
"""

import argparse
import itertools
import time
from functools import partial
from pathlib import Path

import rows
from contest import interleave, summarise
from material import encode, prompts

from scriven import process

process.configure_threads_and_malloc()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "int8"])
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    asked = parser.parse_args()
    if asked.results is not None:
        rows.RESULTS = asked.results
    from scriven import load
    from scriven.generate.prompt_lookup import PromptLookup
    from scriven.generate.sampling import SamplingParams

    here = rows.machine()
    model = load(asked.run, device="cpu", dtype=asked.dtype)
    written = encode(asked.run, asked.text)
    guess = PromptLookup.propose

    def seconds(starts: list[list[int]], dials: SamplingParams, guesses: bool) -> float:
        PromptLookup.propose = guess if guesses else lambda draft, most: []  # type: ignore[method-assign]
        began = time.perf_counter()
        model.engine.generate(starts, dials, asked.tokens, ignore_eos=True)
        return time.perf_counter() - began

    for count, temperature in itertools.product((1, 32), (0.0, 0.8)):
        order = prompts(written, count, 8, 40, 1), SamplingParams(temperature=temperature)
        seconds(*order, True)
        turns = {"with": partial(seconds, *order, True), "without": partial(seconds, *order, False)}
        found = interleave(turns, asked.repeats)
        rates = {
            name: count * asked.tokens / summarise(each)["median"] for name, each in found.items()
        }
        rows.write(
            "guesses", here, prompts=count, temperature=temperature, tokens=asked.tokens,
            tokens_per_second={name: round(rate, 1) for name, rate in rates.items()},
            ratio=round(rates["with"] / rates["without"], 3), repeats=asked.repeats, seed=1,
            parameters=sum(each.numel() for each in model.task.parameters()),
            dtype=asked.dtype or "default",
        )  # fmt: skip


if __name__ == "__main__":
    main()
