"""Time per training step, beside peers: the same weights, batches, optimizer and computation.

Gates, in this order: parameters within 1 %; the same loss on each validation window before
training; the same mean loss within 2 % after the same steps. Only then are steps timed.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import racing
from contest import interleave, ratios, summarise
from entries import Setup, training
from inputs import Shape, encode, make_run, write_batches
from racing import Contest, Contestant
from rows import write

from scriven import registry
from scriven.config import replace
from scriven.models.shared.cost import build_empty, flops_per_token
from scriven.runs.metadata import read_metadata


@dataclass(frozen=True)
class Terms:
    """The settings of a race."""

    rows: int
    """Sequences per step."""
    micro: list[int]
    """Micro-batch sizes to try."""
    gate_steps: int
    steps: int
    """Steps per turn."""
    repeats: int
    windows: int
    threads: int
    seed: int


def flops(run: Path) -> int:
    """FLOPs of training on one token."""
    record = read_metadata(run)
    module = registry.module("scriven.models", record["architecture"])
    config = replace(module.Config(), record["model"], "model")
    task = registry.module("scriven.tasks", record["task"]).Task
    return flops_per_token(build_empty(module, config, task))["training"]


def race(
    setup: Setup, shape: Shape, arch: str, dropout: float, terms: Terms, text: Path, work: Path,
    machine_info: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """(one row per contestant that passed, messages of those that failed)."""
    run = make_run(shape, arch, text, work)
    steps = terms.gate_steps + 2 + terms.steps * (terms.repeats + 1)
    data = write_batches(
        encode(run, text), shape.context_length, terms.rows, steps, terms.windows, terms.seed,
        work / f"batches-{shape.context_length}-{terms.rows}",
    )  # fmt: skip
    request = {"data": str(data), "dropout": dropout, "seed": terms.seed, "threads": terms.threads}
    with ExitStack() as stack:
        entries = training(setup, arch, dropout, terms.micro)
        contest = racing.enter(stack, entries, work, terms.threads)
        _choose_settings(contest, run, request)
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
            "training step", machine_info, rival=one.entry.name, shape=shape.name, arch=arch,
            dropout=dropout, tokens=tokens, seconds=seconds, tokens_per_second=round(rate, 1),
            ratio=round(times[one.entry.name], 3), repeats=terms.repeats, steps=terms.steps,
            share_of_bfloat16=round(rate * cost / 1e9 / machine_info["bfloat16_gflops"], 4),
            settings=one.settings, seed=terms.seed, contest_threads=terms.threads, **one.facts,
        )  # fmt: skip
        made.append(row)
    return made, contest.failures


def _choose_settings(contest: Contest, run: Path, request: dict[str, Any]) -> None:
    """Prepares each contestant with its fastest settings."""

    def attempt(one: Contestant) -> float:
        racing.prepare(one, run, **request)
        one.peer.ask("step", count=1)
        # the better of two, as a machine with neighbours is slow for a while
        return min(float(one.peer.ask("step", count=1)["seconds"]) for _ in range(2))

    def ready(one: Contestant) -> None:
        racing.choose(one, attempt)
        racing.prepare(one, run, **request)

    contest.each(ready)


def _gate(contest: Contest, terms: Terms) -> None:
    ours = contest.ours
    before: list[float] = []
    after: list[float] = []

    def same_start(one: Contestant) -> None:
        losses = one.peer.ask("loss")["losses"]
        if one is ours:
            before.extend(losses)
        parameters = one.facts["parameters"]
        one.facts |= gates.same_size(one.entry.name, parameters, ours.facts["parameters"])
        one.facts |= gates.same_losses(one.entry.name, losses, before, one.entry.bound)

    def same_end(one: Contestant) -> None:
        one.peer.ask("step", count=terms.gate_steps)
        losses = one.peer.ask("loss")["losses"]
        if one is ours:
            after.extend(losses)
        one.facts |= gates.same_learning(one.entry.name, losses, after)

    contest.each(same_start)
    contest.each(same_end)


def _turn(one: Contestant, steps: int) -> Any:
    return lambda: one.peer.ask("step", count=steps)["seconds"] / steps
