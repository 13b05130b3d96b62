"""A model measured by EleutherAI's lm-evaluation-harness, on task files of this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..evaluate import harness as lm_eval_harness
from .model import Model


def harness(
    model: Model,
    tasks_folder: str | Path,
    tasks: Sequence[str] = (),
    limit: int | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Scores of a model on tasks in lm-evaluation-harness's own format; nothing is downloaded.

    Args:
        model: one that writes text.
        tasks_folder: a folder of task files, or one YAML file.
        tasks: names of tasks, groups or tags in it; all tasks by default.
        limit: rows of each task, the first ones; all by default.
        tell: is given what is going on.

    Returns:
        `tasks`: name -> `rows`, `chance` and `metrics` (name -> `value` and `stderr`); `groups`,
        `requests`, `cut` (requests whose text was longer than the context) and the version of
        `lm_eval`.

    Raises:
        MissingExtra: lm_eval is not installed. InputError: a model or a task that cannot be used.
    """
    return lm_eval_harness.harness(
        model.task, model.tokenizer, model.engine, model.runtime, tasks_folder, tasks, limit,
        tell=tell,
    )  # fmt: skip
