"""`scriven finetune`: a trained model and a table in, a model for a task out."""

import shlex
import time
from typing import Any

from ..errors import SettingError
from .base import Json, Quiet, Settings, UserArch, emit, table

BEGAN = time.monotonic()
"""A wall-clock budget counts from here."""

DEFAULTS = ("seed", "data", "runtime", "finetune")
"""What scriven.toml and SCRIVEN_* variables may set of this command."""


def finetune(
    run: str,
    *data: str,
    task: str | None = None,
    columns: str = "",
    validation: str | None = None,
    budget: str | None = None,
    out: str | None = None,
    seed: int | None = None,
    lora: int | None = None,
    head_only: bool = False,
    control: bool = False,
    arch: UserArch = None,
    quiet: Quiet = False,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Fine-tune a model for a task, on the rows of a table.

    The columns tell the task: text and label, premise and hypothesis, prompt and completion, ...
    What comes out is a run like any other, for `scriven predict` or `scriven chat`. The same
    command on an interrupted fine-tuning goes on with it.

    Parameters
    ----------
    run
        The model to start from: a run folder, a name under runs/, or latest.
    data
        Tables with right answers (.csv, .tsv, .jsonl, .parquet), or a built-in one
        (shakespeare-genre, shakespeare-next, shakespeare-reply). A row that cannot be used stops
        the command; --skip-bad leaves such rows out and counts them.
    task
        classify, entail, similarity, choice, chat, instruct, translate or summarize; by default
        what the columns say.
    columns
        Which column is which, where the table has other names than the task, whose own come
        first: text=review,label=stars. Needs --task.
    validation
        A table to measure on; by default a tenth of the rows is held out.
    budget
        How long: 10epochs (passes through the rows), 10m, 2000steps; ten passes and at least 400
        updates by default.
    out
        The new run folder; runs/RUN-TASK by default.
    seed
        Of all random numbers (0 by default).
    lora
        Train low-rank adapters of this rank (8, say) instead of all weights.
    head_only
        Train the layer that scores the answers alone, and leave the model as it is.
    control
        Train the same model without its pre-training as well, for comparison.
    """
    chosen = dict(settings or {})
    if lora is not None and head_only:
        raise SettingError("--lora and --head-only: choose one")
    if lora is not None:
        chosen |= {"finetune.weights": "lora", "finetune.lora_rank": lora}
    if head_only:
        chosen["finetune.weights"] = "head"
    from ..model import finetune as start

    model = start(
        run,
        *data,
        task=task,
        columns=columns,
        validation=validation,
        budget=budget,
        out=out,
        seed=seed,
        control=control,
        arch=arch,
        quiet=quiet,
        settings=chosen,
        began=BEGAN,
    )
    emit(model.results, _summary(model.results), json)


def _summary(results: dict[str, Any]) -> str:
    """What a person wants to read at the end."""
    run = results["run"]
    name = shlex.quote(run.removeprefix("runs/") if run.count("/") == 1 else run)
    verbs = {"chat": f"chat {name}", "instruct": f"chat {name}"}
    task = results["task"]
    verb = verbs.get(task, f"predict {name} IN.csv -o OUT.csv")
    return (
        f"\n{table(scores_table(results))}\n\n"
        f"on {results['val_rows']:,} validation rows; more in {run}/report.html\n"
        f"measure   scriven evaluate {name} TEST.csv\n"
        f"use       scriven {verb}"
    )


def scores_table(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Each score with its interval, beside the baselines' and the control's."""
    rows = []
    others = {name: each["scores"] for name, each in (results.get("baseline") or {}).items()}
    if results.get("control"):
        others["without pre-training"] = results["control"]["val_scores"]
    for name, figure in results["val_scores"].items():
        beside = ", ".join(
            f"{other.replace('_', ' ')} {scores[name]['value']:.3f}"
            for other, scores in others.items()
            if name in scores
        )
        shown = f"{figure['value']:.3f}  [{figure['low']:.3f}, {figure['high']:.3f}]"
        rows.append((name.replace("_", " "), f"{shown}  {beside}".rstrip()))
    return rows
