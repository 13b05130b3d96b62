"""`scriven finish`: ends a training early and well."""

from .base import Json, Run, emit


def finish(run: Run, *, within: str = "1m", json: Json = False) -> None:
    """Ask a running training to finish early.

    Its learning rate falls within the given time, then it evaluates and saves as always.

    Parameters
    ----------
    within
        The time until its last step, such as 90s or 5m.
    """
    from ..runs.folder import find_run
    from ..train.stopping import request_finish

    folder = find_run(run)
    seconds = request_finish(folder, within)
    emit({"run": str(folder), "seconds": seconds}, f"{folder} finishes within {within}", json)
