"""`scriven report`: writes the HTML report of a run again."""

from .base import Json, Run, emit


def report(run: Run, *, json: Json = False) -> None:
    """Write the HTML report of a run, finished or not, and print its path."""
    from ..report.page import write_report
    from ..runs.folder import find_run

    path = write_report(find_run(run))
    emit({"report": str(path)}, str(path), json)
