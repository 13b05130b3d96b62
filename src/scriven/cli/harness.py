"""`scriven harness`: evaluates a model on tasks in the format of lm-evaluation-harness."""

from typing import Annotated, Any

from cyclopts import Parameter

from ..format import plural, table
from .base import Json, Run, UserArch, emit, note, open_model


def harness(
    run: Run,
    place: Annotated[str, Parameter(name="TASKS")],
    *,
    tasks: str | None = None,
    limit: int | None = None,
    arch: UserArch = None,
    json: Json = False,
) -> None:
    """Evaluate a model with EleutherAI's lm-evaluation-harness, on local task files.

    Nothing is downloaded: the data sets are files beside the task's YAML file.

    Parameters
    ----------
    place
        A task's YAML file, or a folder of them.
    tasks
        Names of tasks, groups or tags, separated by commas; all tasks by default.
    limit
        Number of rows of each task, from the first; all by default.
    """
    names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    results = open_model(run, arch).harness(place, names, limit, tell=note)
    if results["cut"]:
        note(
            f"truncated from the left to fit the context: {results['cut']:,} of "
            f"{plural(results['requests'], 'text')}"
        )
    emit(results, _table(results), json)


def _table(results: dict[str, Any]) -> str:
    """One line for each task and metric."""
    lines = [("task", "metric", "score", "chance", "rows")]
    for name, task in [*results["tasks"].items(), *results["groups"].items()]:
        for metric, score in task["metrics"].items():
            value, stderr = _plain(score["value"]), score["stderr"]
            value += f" ± {stderr:.4f}" if stderr is not None else ""
            rows = f"{task['rows']:,}" if "rows" in task else ""
            lines.append((name, metric, value, _plain(task.get("chance")), rows))
            name = ""  # only the first line of a task shows its name
    return table(lines)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
