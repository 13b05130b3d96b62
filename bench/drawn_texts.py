"""Drawing texts from a trained model, beside peers: tokens per second without speculative decoding.

All read the same weights, through our own exports, and draw at temperature 0.8 after the same
prompts of the validation text, in turns. transformers and LitGPT do so with torch.compile or
without, whichever is faster. Before, greedy texts are compared in float32.
Run: python bench/drawn_texts.py RUN TEXT [--bits float32] [--count 1]
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gates
import racing
import rows
from contest import interleave, ratios, summarise
from entries import BITS, OURS, PEERS, Setup, batched, single_stream
from inputs import GATE_TOKENS, CallFailed, encode, export, gate_prompts, prompts
from racing import Contestant

TEMPERATURE = 0.8


def race(args: argparse.Namespace, machine_info: dict[str, Any]) -> None:
    """Writes a row for each program that passed its gate."""
    setup = Setup(args.peers, args.nanogpt, compile=True)
    encoded, exports = encode(args.run, args.text), {}
    for target, form in zip(("gguf", "ctranslate2"), BITS[args.bits], strict=True):
        if form is not None:
            try:
                exports[target] = export(args.run, target, form)
            except CallFailed as error:
                print(f"left out: {error}", flush=True)
    together = args.count > 1
    entries = (
        batched(setup, args.bits, exports)
        if together
        else single_stream(setup, args.arch, args.bits, exports)
    )
    args.work.mkdir(parents=True, exist_ok=True)
    starts = prompts(encoded, args.count, 8, 16, args.seed)
    expected: list[str] = []

    def attempt(one: Contestant) -> float:
        racing.prepare(one, args.run, threads=args.threads, seed=args.seed)
        draw(one)  # the first one compiles
        return draw(one)

    def ready(one: Contestant) -> None:
        racing.choose(one, attempt)
        racing.prepare(one, args.run, threads=args.threads, seed=args.seed)
        answer = one.peer.ask("generate", prompts=gate_prompts(encoded), tokens=GATE_TOKENS)
        texts = answer.get("texts") or [encoded.tokenizer.decode(ids) for ids in answer["ids"]]
        expected.extend(texts if not expected else [])
        least = one.entry.least if args.bits == "float32" else gates.ROUNDED
        base = contest.ours.facts["parameters"]
        one.facts |= gates.same_size(one.entry.name, one.facts["parameters"], base)
        one.facts |= gates.same_texts(one.entry.name, texts, expected, least)
        draw(one)

    def draw(one: Contestant) -> float:
        answer = one.peer.ask(
            "generate", prompts=starts, tokens=args.tokens, temperature=TEMPERATURE
        )
        return float(answer["processor_seconds" if args.processor_time else "seconds"])

    with ExitStack() as stack:
        contest = racing.enter(stack, entries, args.work, args.threads)
        contest.each(ready)
        turns = {one.entry.name: (lambda own=one: draw(own)) for one in contest.field}
        found = interleave(turns, args.repeats)
    times = ratios(found, OURS)
    for one in contest.field:
        seconds = summarise(found[one.entry.name])
        rate = args.count * args.tokens / seconds["median"]
        what = "drawn texts" if args.count == 1 else f"drawn texts, {args.count} at once"
        what += ", by processor time" if args.processor_time else ""
        rows.write(
            what, machine_info, rival=one.entry.name, arch=args.arch,
            shape=f"{one.facts['parameters'] / 1e6:.1f}M",
            bits=args.bits, run=args.run.name, temperature=TEMPERATURE, speculation=False,
            tokens=args.tokens, seconds=seconds, tokens_per_second=round(rate, 1),
            ratio=round(times[one.entry.name], 3), repeats=args.repeats, seed=args.seed,
            settings=one.settings, processor_time=args.processor_time,
            contest_threads=args.threads, **one.facts,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--arch", default="gpt2", help="of the run: gpt2 or llama")
    parser.add_argument("--bits", choices=list(BITS), default="float32")
    parser.add_argument("--count", type=int, default=1, help="texts at once")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--processor-time", action="store_true",
        help="processor time in place of wall-clock time, for a busy machine and --threads 1",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", type=Path, default=PEERS, help="their Python interpreter")
    parser.add_argument("--nanogpt", type=Path, help="a folder with nanoGPT's model.py")
    parser.add_argument("--work", type=Path, default=Path("runs/drawn-texts"))
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    race(args, rows.machine())


if __name__ == "__main__":
    sys.exit(main())
