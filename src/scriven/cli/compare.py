"""`scriven compare`: runs side by side."""

import shutil
import sys

from .base import emit


def compare(
    *runs: str,
    fold_seeds: bool = False,
    markdown: bool = False,
    json: bool = False,
) -> None:
    """Put runs side by side: their shapes, their settings and what they reached.

    Runs on another text, or with another kind of loss, are marked and never ranked together.

    Parameters
    ----------
    runs
        Run folders, names under runs/, latest, patterns such as 'bench-book/*', or folders of
        runs.
    fold_seeds
        One row for runs that differ in their seed only: mean ± half their range.
    markdown
        A Markdown table on standard output.
    json
        One JSON object on standard output.
    """
    from ..report.compare import compare as put_together

    found = put_together(runs, fold_seeds=fold_seeds)
    if markdown:
        emit(found.data(), found.markdown().rstrip("\n"), json)
        return
    width = shutil.get_terminal_size((100, 24)).columns
    emit(found.data(), found.text(width, bold=sys.stdout.isatty()), json)
