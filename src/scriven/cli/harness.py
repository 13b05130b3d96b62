"""`scriven harness`: evaluates a model on tasks in the format of lm-evaluation-harness."""

from typing import Annotated, Any

from cyclopts import Parameter

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
            f"{results['cut']:,} of {results['requests']:,} texts are longer than the context: "
            "they were truncated from the left"
        )
    emit(results, _table(results), json)


def _table(results: dict[str, Any]) -> str:
    """One line for each task and metric."""
    lines = [("task", "metric", "score", "chance", "rows")]
    for name, task in [*results["tasks"].items(), *results["groups"].items()]:
        for metric, score in task["metrics"].items():
            lines.append((name, metric, _score(**score), _plain(task.get("chance")), _rows(task)))
            name = ""  # only the first line of a task shows its name
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _score(value: float | None, stderr: float | None) -> str:
    return _plain(value) + (f" ± {stderr:.4f}" if stderr is not None else "")


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _rows(task: dict[str, Any]) -> str:
    return f"{task['rows']:,}" if "rows" in task else ""
