"""`scriven compare`: a table of runs."""

import shutil
import sys

from .base import Json, emit


def compare(
    *runs: str,
    fold_seeds: bool = False,
    markdown: bool = False,
    json: Json = False,
) -> None:
    """Compare runs: architecture, settings and results.

    Runs on another text, or with a loss per another unit, are marked and not ranked together.

    Parameters
    ----------
    runs
        Run folders, names under runs/, latest, patterns such as 'bench-book/*', or folders of
        runs.
    fold_seeds
        One row for runs that differ only in their seed: mean ± half the range.
    markdown
        Print a Markdown table.
    """
    from ..report.compare import compare as compare_runs

    comparison = compare_runs(runs, fold_seeds=fold_seeds)
    width = shutil.get_terminal_size((100, 24)).columns
    text = comparison.text(width, bold=sys.stdout.isatty())
    emit(
        comparison.data(),
        comparison.markdown().rstrip("\n") if markdown else text,
        json,
        styled=True,
    )
