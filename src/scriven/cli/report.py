"""`scriven report`: writes the HTML report of a run again."""

from .base import emit


def report(run: str, *, json: bool = False) -> None:
    """Write the HTML report of a run, finished or not, and print its path.

    Parameters
    ----------
    run
        A run folder, a name under runs/, or latest.
    json
        One JSON object on standard output.
    """
    from ..report.page import write_report
    from ..runs.folder import find_run

    path = write_report(find_run(run))
    emit({"report": str(path)}, str(path), json)
