"""The time of a training step, side by side: the same weights, batches, optimizer and mathematics.

Gates, in this order: parameters within 1 %; the same loss on held-out windows before training, one
by one; after the same updates the same mean loss within 2 %. Only then is a clock started.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import racing
from contest import interleave, ratios, summarise
from entries import House, training
from material import Shape, encode, make_run, write_batches
from racing import Contest, Contestant
from rows import write

from scriven import registry
from scriven.config import replace
from scriven.models.shared.cost import build_empty, flops_per_token
from scriven.runs.metadata import read_metadata


@dataclass(frozen=True)
class Terms:
    """How a race is run."""

    rows: int
    """Of an update."""
    micro: list[int]
    """Rows at once that are tried."""
    gate_steps: int
    steps: int
    """Updates in a turn."""
    repeats: int
    windows: int
    threads: int
    seed: int


def flops(run: Path) -> int:
    """Floating-point operations of training on one token."""
    record = read_metadata(run)
    module = registry.module("scriven.models", record["architecture"])
    config = replace(module.Config(), record["model"], "model")
    task = registry.module("scriven.tasks", record["task"]).Task
    return flops_per_token(build_empty(module, config, task))["training"]


def race(
    house: House, shape: Shape, arch: str, dropout: float, terms: Terms, text: Path, work: Path,
    here: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """Rows, one for each that passed, and why others did not."""
    run = make_run(shape, arch, text, work)
    updates = terms.gate_steps + 2 + terms.steps * (terms.repeats + 1)
    data = write_batches(
        encode(run, text), shape.context_length, terms.rows, updates, terms.windows, terms.seed,
        work / f"batches-{shape.context_length}-{terms.rows}",
    )  # fmt: skip
    request = {"data": str(data), "dropout": dropout, "seed": terms.seed, "threads": terms.threads}
    with ExitStack() as stack:
        entries = training(house, arch, dropout, terms.micro)
        contest = racing.enter(stack, entries, work, terms.threads)
        _settle(contest, run, request)
        _gate(contest, terms)
        turns = {one.entry.name: _turn(one, terms.steps) for one in contest.field}
        found = interleave(turns, terms.repeats)
    times = ratios(found, contest.ours.entry.name)
    tokens, cost = terms.rows * shape.context_length, flops(run)
    made = []
    for one in contest.field:
        seconds = summarise(found[one.entry.name])
        rate = tokens / seconds["median"]
        row = write(
            "training step", here, rival=one.entry.name, shape=shape.name, arch=arch,
            dropout=dropout, tokens=tokens, seconds=seconds, tokens_per_second=round(rate, 1),
            ratio=round(times[one.entry.name], 3), repeats=terms.repeats, steps=terms.steps,
            share_of_bfloat16=round(rate * cost / 1e9 / here["bfloat16_gflops"], 4),
            settings=one.settings, seed=terms.seed, contest_threads=terms.threads, **one.facts,
        )  # fmt: skip
        made.append(row)
    return made, contest.failures


def _settle(contest: Contest, run: Path, request: dict[str, Any]) -> None:
    """Each with its fastest settings, ready to begin."""

    def attempt(one: Contestant) -> float:
        racing.prepare(one, run, **request)
        one.rival.ask("step", count=1)
        return float(one.rival.ask("step", count=1)["seconds"])

    def ready(one: Contestant) -> None:
        racing.choose(one, attempt)
        racing.prepare(one, run, **request)

    contest.each(ready)


def _gate(contest: Contest, terms: Terms) -> None:
    ours = contest.ours
    before: list[float] = []
    after: list[float] = []

    def same_start(one: Contestant) -> None:
        losses = one.rival.ask("loss")["losses"]
        if one is ours:
            before.extend(losses)
        parameters = one.facts["parameters"]
        one.facts |= gates.same_size(one.entry.name, parameters, ours.facts["parameters"])
        one.facts |= gates.same_losses(one.entry.name, losses, before, one.entry.bound)

    def same_end(one: Contestant) -> None:
        one.rival.ask("step", count=terms.gate_steps)
        losses = one.rival.ask("loss")["losses"]
        if one is ours:
            after.extend(losses)
        one.facts |= gates.same_learning(one.entry.name, losses, after)

    contest.each(same_start)
    contest.each(same_end)


def _turn(one: Contestant, steps: int) -> Any:
    return lambda: one.rival.ask("step", count=steps)["seconds"] / steps
