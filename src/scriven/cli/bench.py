"""`scriven bench`: measures this machine, or compares architectures on equal compute."""

import shutil
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from ..config import SECTIONS
from ..format import table
from .base import Json, Quiet, Settings, Size, emit

DEFAULTS = ("budget", "size", *SECTIONS)


def bench(
    *sources: str,
    arch: str | None = None,
    budget: str = "2m",
    seeds: int = 3,
    size: Size = None,
    out: str | None = None,
    base: Annotated[str | None, Parameter(name="--from")] = None,
    quiet: Quiet = False,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Measure this machine; or, with a text, train architectures for the same time and compare.

    Without a text it measures matrix multiplication, memory bandwidth, training and generation in
    half a minute. With a text, the same command resumes after an interruption and repeats no
    finished run.

    Parameters
    ----------
    sources
        Files, folders, globs, or a built-in corpus; none to measure the machine.
    arch
        Architectures or .py files of your own, separated by commas; all by default.
    budget
        Training length of each run: 2m, 500steps, 3epochs, 50Mtokens.
    seeds
        Runs of each architecture, over which the error bars are computed.
    out
        The folder of the runs; runs/bench-NAME by default.
    base
        A model that goes on with the text for the same budget: should you train your own at all?
    """
    if not sources and (arch, size, out, base, settings or None) == (None,) * 5:
        from ..machine.benchmark import benchmark

        data = benchmark()
        emit(data, _summary(data), json)
        return
    # imported here, as it loads torch
    from ..bench import bench as run

    names = [name.strip() for name in (arch or "").split(",") if name.strip()]
    comparison = run(
        *sources, arch=names, budget=budget, seeds=seeds, size=size, out=out, base=base,
        quiet=quiet, settings=settings or {},
    )  # fmt: skip
    width = shutil.get_terminal_size((100, 24)).columns
    emit(comparison.data(), comparison.text(width, bold=sys.stdout.isatty()), json, styled=True)


def _summary(data: dict[str, Any]) -> str:
    """The machine's figures for a person."""
    rates = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in data["matmul_gflops"].items())
    rows = [
        ("machine", f"{data['processor']}, {data['device']}, {data['threads']} threads"),
        ("matmul", rates),
    ]
    if data["memory_gb_per_second"]:
        rows.append(("memory", f"{data['memory_gb_per_second']:g} GB/s read"))
    for each in data["sizes"]:
        generated = f"generates {each['generation_tokens_per_second']:,.0f} tokens/s"
        if each["generation_bandwidth_utilisation"]:
            share = f"{each['generation_bandwidth_utilisation']:.0%}"
            generated += f", reading weights at {share} of the memory bandwidth"
        trained = f"trains {each['training_tokens_per_second']:,.0f} tokens/s"
        batched = f"generates {each['batched_generation_tokens_per_second']:,.0f} tokens/s"
        rows += [
            (
                f"{each['size']}, {each['parameters'] / 1e6:.1f}M",
                f"{trained}, {each['training_mfu']:.0%} of the matmul rate",
            ),
            ("", generated),
            ("", f"{batched} in a batch of {data['generation_batch_size']}"),
        ]
    return table(rows)
