"""`scriven bench`: architectures side by side, on the same text for the same time."""

import shutil
import sys
from typing import Annotated

from cyclopts import Parameter

from .base import emit


def bench(
    *sources: str,
    arch: str | None = None,
    budget: str = "2m",
    seeds: int = 3,
    size: str | None = None,
    out: str | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    settings: Annotated[dict[str, object] | None, Parameter(parse=False)] = None,
) -> None:
    """Train architectures for the same time on the same text, and compare what they reach.

    The same command again goes on where it was stopped; a finished run is not repeated.

    Parameters
    ----------
    sources
        Files, folders, globs, or a built-in corpus.
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
    from ..api import bench as run

    names = [name.strip() for name in (arch or "").split(",") if name.strip()]
    found = run(
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
    emit(found.data(), found.text(width, bold=sys.stdout.isatty()), json)
