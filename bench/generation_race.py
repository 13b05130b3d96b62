"""Greedy generation, beside peers: tokens per second of one sequence, and of a batch of 32 prompts.

All use the same weights, through our own exports, which `scriven export` compared in the real
program. Before anything is timed, texts are compared too, in float32 character by character
(gates.py). Rows say which fraction of the characters was the same.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import racing
from contest import interleave, ratios, summarise
from entries import BITS, OURS, Setup, batched, single_stream
from inputs import (
    GATE_TOKENS,
    CallFailed,
    EncodedText,
    Shape,
    encode,
    export,
    gate_prompts,
    make_run,
    make_words,
    prompts,
    randomize_blocks,
)
from racing import Contest, Contestant
from rows import write

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Terms:
    """The settings of a race."""

    tokens: int
    """Generated after each prompt."""
    repeats: int
    threads: int
    seed: int
    least: int = 16
    most: int = 16
    """Tokens of a prompt."""
    count: int = 1
    """Batch size."""


def race(
    setup: Setup, shape: Shape, arch: str, dtype: str, terms: Terms, text: Path, work: Path,
    machine_info: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """(one row per contestant that passed, messages of those that failed)."""
    source = text if shape.vocab_size is None else make_words(shape.vocab_size, work)
    run = randomize_blocks(make_run(shape, arch, text, work), source)
    encoded = encode(run, source)
    starts = prompts(encoded, terms.count, terms.least, terms.most, terms.seed)
    together = terms.count > 1
    exports, missing = _exports(run, dtype, together)
    entries = (
        batched(setup, dtype, exports) if together else single_stream(setup, arch, dtype, exports)
    )
    with ExitStack() as stack:
        contest = racing.enter(stack, entries, work, terms.threads)
        _choose_settings(contest, run, terms, starts)
        _gate(contest, encoded, strict=dtype == "float32")
        turns = {one.entry.name: _turn(one, starts, terms.tokens) for one in contest.field}
        found = interleave(turns, terms.repeats)
    times = ratios(found, OURS)
    made = []
    for one in contest.field:
        seconds = summarise(found[one.entry.name])
        rate = terms.count * terms.tokens / seconds["median"]
        row = write(
            "writing" if not together else f"writing {terms.count} at once", machine_info,
            rival=one.entry.name, shape=shape.name, arch=arch, bits=dtype, tokens=terms.tokens,
            prompt_tokens=[terms.least, terms.most], seconds=seconds,
            tokens_per_second=round(rate, 1), ratio=round(times[one.entry.name], 3),
            share_of_reading=_share(one, dtype, rate / terms.count, machine_info),
            repeats=terms.repeats, settings=one.settings, seed=terms.seed,
            contest_threads=terms.threads, **one.facts,
        )  # fmt: skip
        made.append(row)
    return made, missing + contest.failures


def _share(one: Contestant, dtype: str, passes: float, machine_info: dict[str, Any]) -> float:
    """Weights read per second over the memory bandwidth; above 1 they are in a cache."""
    read = one.facts["parameters"] * BYTES[dtype] * passes / 1e9
    return round(read / float(machine_info["memory_gb_per_second"]["read"]), 3)


def _exports(run: Path, dtype: str, together: bool) -> tuple[dict[str, Path], list[str]]:
    """(folders by target, messages of exports that failed); their programs are left out."""
    gguf, ctranslate2 = BITS[dtype]
    found: dict[str, Path] = {}
    missing: list[str] = []
    for target, form in (("gguf", None if together else gguf), ("ctranslate2", ctranslate2)):
        if form is not None:
            try:
                found[target] = export(run, target, form)
            except CallFailed as error:
                missing.append(f"{run.name} as {target}: {error}")
    return found, missing


def _choose_settings(contest: Contest, run: Path, terms: Terms, starts: list[list[int]]) -> None:
    """Prepares each with its fastest settings; its first text, which may compile, is discarded."""

    def attempt(one: Contestant) -> float:
        racing.prepare(one, run, threads=terms.threads, seed=terms.seed)
        one.peer.ask("generate", prompts=starts, tokens=terms.tokens)
        again = one.peer.ask("generate", prompts=starts, tokens=terms.tokens)
        return float(again["seconds"])

    def ready(one: Contestant) -> None:
        racing.choose(one, attempt)
        racing.prepare(one, run, threads=terms.threads, seed=terms.seed)
        one.peer.ask("generate", prompts=starts, tokens=terms.tokens)

    contest.each(ready)


def _gate(contest: Contest, encoded: EncodedText, strict: bool) -> None:
    ours = contest.ours
    expected: list[str] = []
    starts = gate_prompts(encoded)

    def same(one: Contestant) -> None:
        answer = one.peer.ask("generate", prompts=starts, tokens=GATE_TOKENS)
        texts = answer.get("texts") or [encoded.tokenizer.decode(ids) for ids in answer["ids"]]
        if one is ours:
            gates.check_distinctive(texts)
            expected.extend(texts)
        base = ours.facts["parameters"]
        one.facts |= gates.same_size(one.entry.name, one.facts["parameters"], base)
        least = one.entry.least if strict else gates.ROUNDED
        one.facts |= gates.same_texts(one.entry.name, texts, expected, least)

    contest.each(same)


def _turn(one: Contestant, starts: list[list[int]], tokens: int) -> Any:
    return lambda: one.peer.ask("generate", prompts=starts, tokens=tokens)["seconds"]
