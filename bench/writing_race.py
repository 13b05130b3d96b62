"""Greedy writing, side by side: tokens per second of one stream, and of 32 prompts at once.

The same weights through our own exports, each of which was compared in the real program when it
was made; before a clock is started, texts are compared too, in float32 letter by letter (gates.py).
Rows say which share of the characters was the same.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import racing
from contest import interleave, ratios, summarise
from entries import BITS, OURS, House, batched, writing
from material import (
    GATE_TOKENS,
    CallFailed,
    Shape,
    Written,
    encode,
    enliven,
    export,
    gate_prompts,
    make_run,
    make_words,
    prompts,
)
from racing import Contest, Contestant
from rows import write

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Terms:
    """How a race is run."""

    tokens: int
    """Written after each prompt."""
    repeats: int
    threads: int
    seed: int
    least: int = 16
    most: int = 16
    """Tokens of a prompt."""
    count: int = 1
    """Prompts at once."""


def race(
    house: House, shape: Shape, arch: str, dtype: str, terms: Terms, text: Path, work: Path,
    here: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """Rows, one for each that passed, and why others did not."""
    source = text if shape.vocab_size is None else make_words(shape.vocab_size, work)
    run = enliven(make_run(shape, arch, text, work), source)
    written = encode(run, source)
    asked = prompts(written, terms.count, terms.least, terms.most, terms.seed)
    together = terms.count > 1
    exports, missing = _exports(run, dtype, together)
    entries = batched(house, dtype, exports) if together else writing(house, arch, dtype, exports)
    with ExitStack() as stack:
        contest = racing.enter(stack, entries, work, terms.threads)
        _settle(contest, run, terms, asked)
        _gate(contest, written, strict=dtype == "float32")
        turns = {one.entry.name: _turn(one, asked, terms.tokens) for one in contest.field}
        found = interleave(turns, terms.repeats)
    times = ratios(found, OURS)
    made = []
    for one in contest.field:
        seconds = summarise(found[one.entry.name])
        rate = terms.count * terms.tokens / seconds["median"]
        row = write(
            "writing" if not together else f"writing {terms.count} at once", here,
            rival=one.entry.name, shape=shape.name, arch=arch, bits=dtype, tokens=terms.tokens,
            prompt_tokens=[terms.least, terms.most], seconds=seconds,
            tokens_per_second=round(rate, 1), ratio=round(times[one.entry.name], 3),
            share_of_reading=_share(one, dtype, rate / terms.count, here),
            repeats=terms.repeats, settings=one.settings, seed=terms.seed,
            contest_threads=terms.threads, **one.facts,
        )  # fmt: skip
        made.append(row)
    return made, missing + contest.failures


def _share(one: Contestant, dtype: str, passes: float, here: dict[str, Any]) -> float:
    """Weights read per second over what memory gives; above 1 they lie in a cache."""
    read = one.facts["parameters"] * BYTES[dtype] * passes / 1e9
    return round(read / float(here["memory_gb_per_second"]["read"]), 3)


def _exports(run: Path, dtype: str, together: bool) -> tuple[dict[str, Path], list[str]]:
    """The folders by target, and why one is missing; its program is then not raced."""
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


def _settle(contest: Contest, run: Path, terms: Terms, asked: list[list[int]]) -> None:
    """Each with its fastest settings; its first text, which may compile, is thrown away."""

    def attempt(one: Contestant) -> float:
        racing.prepare(one, run, threads=terms.threads, seed=terms.seed)
        one.rival.ask("generate", prompts=asked, tokens=terms.tokens)
        again = one.rival.ask("generate", prompts=asked, tokens=terms.tokens)
        return float(again["seconds"])

    def ready(one: Contestant) -> None:
        racing.choose(one, attempt)
        racing.prepare(one, run, threads=terms.threads, seed=terms.seed)
        one.rival.ask("generate", prompts=asked, tokens=terms.tokens)

    contest.each(ready)


def _gate(contest: Contest, written: Written, strict: bool) -> None:
    ours = contest.ours
    expected: list[str] = []
    asked = gate_prompts(written)

    def same(one: Contestant) -> None:
        answer = one.rival.ask("generate", prompts=asked, tokens=GATE_TOKENS)
        texts = answer.get("texts") or [written.tokenizer.decode(ids) for ids in answer["ids"]]
        if one is ours:
            gates.telling(texts)
            expected.extend(texts)
        base = ours.facts["parameters"]
        one.facts |= gates.same_size(one.entry.name, one.facts["parameters"], base)
        least = one.entry.least if strict else gates.ROUNDED
        one.facts |= gates.same_texts(one.entry.name, texts, expected, least)

    contest.each(same)


def _turn(one: Contestant, asked: list[list[int]], tokens: int) -> Any:
    return lambda: one.rival.ask("generate", prompts=asked, tokens=tokens)["seconds"]
