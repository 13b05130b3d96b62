"""Generation with and without speculative decoding: greedy and sampled, batch sizes 1 and 32.

    scriven train tinyshakespeare.txt --budget 1m --out run
    python bench/speculative_decoding.py run tinyshakespeare.txt

The prompts are from the last tenth of the text. The two variants are interleaved.
"""

import argparse
import itertools
import time
from functools import partial
from pathlib import Path

import rows
from contest import interleave, summarise
from inputs import encode, prompts

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
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    from scriven import load
    from scriven.generate.prompt_lookup import PromptLookup
    from scriven.generate.sampling import SamplingParams

    machine_info = rows.machine()
    model = load(args.run, device="cpu", dtype=args.dtype)
    encoded = encode(args.run, args.text)
    propose = PromptLookup.propose

    def seconds(starts: list[list[int]], sampling: SamplingParams, speculate: bool) -> float:
        PromptLookup.propose = propose if speculate else lambda draft, most: []  # type: ignore[method-assign]
        began = time.perf_counter()
        model.engine.generate(starts, sampling, args.tokens, ignore_eos=True)
        return time.perf_counter() - began

    for count, temperature in itertools.product((1, 32), (0.0, 0.8)):
        order = prompts(encoded, count, 8, 40, 1), SamplingParams(temperature=temperature)
        seconds(*order, True)
        turns = {"with": partial(seconds, *order, True), "without": partial(seconds, *order, False)}
        found = interleave(turns, args.repeats)
        rates = {
            name: count * args.tokens / summarise(each)["median"] for name, each in found.items()
        }
        rows.write(
            "guesses", machine_info, prompts=count, temperature=temperature, tokens=args.tokens,
            tokens_per_second={name: round(rate, 1) for name, rate in rates.items()},
            ratio=round(rates["with"] / rates["without"], 3), repeats=args.repeats, seed=1,
            parameters=sum(each.numel() for each in model.task.parameters()),
            dtype=args.dtype or "default",
        )  # fmt: skip


if __name__ == "__main__":
    main()
