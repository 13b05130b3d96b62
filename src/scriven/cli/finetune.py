"""`scriven finetune`: fine-tunes a trained model for a task, on tables."""

import shlex
import time
from typing import Any

from ..errors import SettingError
from ..format import plural, table
from .base import Json, Quiet, Run, Seed, Settings, UserArch, emit

BEGAN = time.monotonic()  # a wall-clock budget counts from here

SMALL_MODEL = 30_000_000  # parameters; with fewer, a model was hardly pre-trained on much text

DEFAULTS = ("seed", "data", "runtime", "finetune")


def finetune(
    run: Run,
    *data: str,
    task: str | None = None,
    columns: str = "",
    validation: str | None = None,
    group: str | None = None,
    budget: str | None = None,
    out: str | None = None,
    seed: Seed = None,
    lora: int | None = None,
    head_only: bool = False,
    control: bool = False,
    arch: UserArch = None,
    quiet: Quiet = False,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Fine-tune a model for a task, on the rows of a table.

    The columns decide the task: text and label, premise and hypothesis, prompt and completion, ...
    The result is a run for `scriven predict` or `scriven chat`. The same command resumes it.

    Parameters
    ----------
    data
        Tables with labels (.csv, .tsv, .jsonl, .parquet), or a built-in one (shakespeare-genre,
        shakespeare-next, shakespeare-reply). --skip-bad skips malformed rows and counts them.
    task
        classify, multilabel, entail, regression, similarity, tag, answer, choice, rank, chat,
        instruct, dpo, translate, summarize; by default inferred from the columns.
    columns
        Columns of the task and their names in the table: text=review,label=stars. Needs --task.
    validation
        A table to evaluate on; a tenth of the rows by default.
    group
        A column such as author or patient, of which no value may be in both parts of the split.
    budget
        Training length: 10m, 2000steps or 10epochs; ten epochs and at least 400 steps by default.
        +5epochs trains a finished run longer.
    out
        The new run folder; runs/RUN-TASK by default.
    lora
        Train LoRA adapters of this rank, such as 8, instead of all weights.
    head_only
        Train the head alone, with the weights of the model frozen.
    control
        Train the same model from random weights as well, for comparison.
    """
    chosen = dict(settings or {})
    if lora is not None and head_only:
        raise SettingError("--lora and --head-only: choose one")
    if lora is not None:
        chosen |= {"finetune.weights": "lora", "finetune.lora_rank": lora}
    elif head_only:
        chosen["finetune.weights"] = "head"
    # imported here, as it loads torch
    from ..train.request import TrainRequest
    from ..train.run import train_and_report

    request = TrainRequest(
        base=run, sources=data, task=task, columns=columns, validation=validation, group=group,
        budget=budget, out=out, seed=seed, control=control, arch=arch, quiet=quiet,
        settings=chosen, began=BEGAN,
    )  # fmt: skip
    results = train_and_report(request).results
    emit(results, _summary(results), json)


def _summary(results: dict[str, Any]) -> str:
    """The scores for a person, and the commands that use the model."""
    run = results["run"]
    # a run below runs/ is found by its name alone
    name = shlex.quote(run.removeprefix("runs/") if run.count("/") == 1 else run)
    verbs = dict.fromkeys(("chat", "instruct", "dpo"), f"chat {name}")
    verbs["answer"] = f"chat {name} --context FILE"
    task = results["task"]
    verb = verbs.get(task, f"predict {name} IN.csv -o OUT.csv")
    return (
        f"\n{table(scores_table(results))}\n\n"
        f"on {plural(results['val_rows'], 'validation row')}; more in {run}/report.html\n"
        f"evaluate  scriven evaluate {name} TEST.csv\n"
        f"use       scriven {verb}{_advice(results)}"
    )


def _advice(results: dict[str, Any]) -> str:
    """A last line where the model is no better than a trivial baseline: what helps most."""
    metric = results.get("main_score")
    if metric not in results["val_scores"]:
        return ""
    reached = results["val_scores"][metric]["value"]
    scores = {
        name.replace("_", " "): each["scores"][metric]["value"]
        for name, each in (results.get("baseline") or {}).items()
        if metric in each["scores"]
    }
    best = max(scores, key=lambda name: scores[name], default="")
    if not best or reached > scores[best]:
        return ""
    if results["parameters"] < SMALL_MODEL:
        remedy = (
            "fine-tune a pre-trained model: scriven finetune FILE.gguf or hf:ORG/NAME in its place"
        )
    elif results["best_step"] == results["steps"]:
        remedy = "train longer, as it was still improving: a larger --budget"
    else:
        remedy = "give more labelled rows"
    return f"\nnote      no better than the {best} ({scores[best]:.3f}); what helps most: {remedy}"


def scores_table(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Each score with its interval, beside the baselines' and the control's."""
    rows = []
    # name -> scores of what the model is compared with
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
