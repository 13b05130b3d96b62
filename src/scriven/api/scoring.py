"""Scores of a fine-tuned model on a table with right answers, beside trivial baselines."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..data.table import Table
from ..errors import InputError, ScrivenError
from ..evaluate.table import evaluate_rows as score_table
from ..settings import DataSettings
from ..tasks.shared.columns import Row
from ..train.resume import plan_from_metadata
from ..train.table_data import checked, load_table, shared
from .answers import chosen_columns, predictor, task_of

if TYPE_CHECKING:
    from .model import Model


def evaluate_rows(
    model: "Model",
    sources: Sequence[str],
    data: DataSettings,
    **knobs: Any,
) -> dict[str, Any]:
    """Scores on a table with right answers, beside baselines fitted to the training rows.

    Args:
        sources: tables, or a built-in one, of which the test part is read; without any, the
            validation part of the run.

    Raises:
        InputError: a table that cannot be used, or labels that training never saw.
    """
    task, record = task_of(model), model.record
    about = {name: record["finetune"].get(name) for name in ("labels", "mean", "spread")}
    notes: list[str] = []
    train, rows = _training_rows(model, notes)
    if sources:
        rows = _rows_of(model, sources, data, notes)
        if seen := shared(type(task), train, rows):
            notes.append(
                f"{seen:,} of {len(rows):,} rows are training rows: scores on them say little"
            )
    elif not rows:
        raise InputError(f"{notes[-1]}; name a table to evaluate on")
    answers = predictor(model, **knobs).answer(rows)
    return score_table(record["task"], type(task), rows, answers, about, train, notes)


def _training_rows(model: "Model", notes: list[str]) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows of the run; empty, with a note, where they cannot be had."""
    record = model.record
    tuned, known = record["finetune"], record["data"]
    if "-" in (*known["sources"], tuned.get("validation")):
        notes.append("no baselines, since the training rows came from standard input")
        return [], []
    words = ",".join(f"{own}={name}" for own, name in tuned["columns"].items())
    try:
        ground = load_table(
            known["sources"],
            plan_from_metadata(record, model.architecture).settings.data,
            task=record["task"],
            columns=words,
            validation=tuned.get("validation"),
            seed=record["settings"]["seed"],
        )
    except ScrivenError as error:
        notes.append(f"no baselines, since the training rows cannot be read: {error}")
        return [], []
    if ground.fingerprint != known["fingerprint"]:
        notes.append("no baselines, since the training rows have changed")
        return [], []
    return ground.train, ground.validation


def _rows_of(
    model: "Model", sources: Sequence[str], data: DataSettings, notes: list[str]
) -> list[Row]:
    """All rows of a table with right answers that the model can give."""
    task = task_of(model)
    with Table(sources, data, "test") as table:
        chosen = chosen_columns(model, table.columns, answers=True)
        # encoding refuses a label that is not known
        known = partial(task.encode, model.tokenizer)
        return checked(table, type(task), chosen, data, notes, also=known)
