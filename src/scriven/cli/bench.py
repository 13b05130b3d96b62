"""`scriven bench`: measures this machine, or compares architectures on equal compute."""

import shutil
import sys
from typing import Any

from ..config import SECTIONS
from .base import Settings, emit, table

DEFAULTS = ("budget", "size", *SECTIONS)
"""What scriven.toml and SCRIVEN_* variables may set of this command."""


def bench(
    *sources: str,
    arch: str | None = None,
    budget: str = "2m",
    seeds: int = 3,
    size: str | None = None,
    out: str | None = None,
    quiet: bool = False,
    json: bool = False,
    settings: Settings = None,
) -> None:
    """Measure this machine; or, with a text, train architectures for the same time and compare.

    Without a text it takes half a minute: products, memory, and tokens a second of training and of
    writing. With one, the same command again goes on where it was stopped; a finished run is not
    repeated.

    Parameters
    ----------
    sources
        Files, folders, globs, or a built-in corpus; none to measure the machine.
    arch
        Architectures with commas between them, or .py files of your own; all by default.
    budget
        Of each run: 2m, 500steps, 3epochs, 50Mtokens.
    seeds
        Runs of each architecture; the error bars come from them.
    size
        tiny, small, medium, base, large, or a number of parameters such as 12M.
    out
        The folder of the runs; runs/bench-NAME by default.
    quiet
        No progress on standard error.
    json
        One JSON object on standard output.
    """
    if not sources and (arch, size, out, settings or None) == (None, None, None, None):
        from ..machine.benchmark import benchmark

        data = benchmark()
        emit(data, _summary(data), json)
        return
    from ..bench import bench as run

    names = [name.strip() for name in (arch or "").split(",") if name.strip()]
    comparison = run(
        *sources,
        arch=names,
        budget=budget,
        seeds=seeds,
        size=size,
        out=out,
        quiet=quiet,
        settings=settings or {},
    )
    width = shutil.get_terminal_size((100, 24)).columns
    emit(comparison.data(), comparison.text(width, bold=sys.stdout.isatty()), json)


def _summary(data: dict[str, Any]) -> str:
    """The machine's figures for a person."""
    rates = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in data["gflops"].items())
    facts = [
        ("machine", f"{data['processor']}, {data['device']}, {data['threads']} threads"),
        ("products", rates),
    ]
    if data["memory_gb_per_second"]:
        facts.append(("memory", f"{data['memory_gb_per_second']:g} GB/s read"))
    for each in data["sizes"]:
        name = f"{each['size']}, {each['parameters'] / 1e6:.1f}M"
        share = f"{each['training_share']:.0%} of the products' rate"
        facts.append((name, f"trains {each['training']:,.0f} tokens/s, {share}"))
        alone = f"writes {each['writing']:,.0f} tokens/s"
        if each["writing_share"]:
            alone += f", reading weights at {each['writing_share']:.0%} of the memory's rate"
        many = f"       {each['writing_together']:,.0f} in {data['texts']} texts at once"
        facts += [("", alone), ("", many)]
    return table(facts)
