"""Fine-tuning from Python: a trained model and a table in, a model for a task out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..runs.huggingface import rewrite_model_card
from ..runs.metadata import read_metadata, write_metadata
from ..train.conduct import TrainResult
from ..train.request import TrainRequest
from ..train.run import start_or_resume
from .model import Model
from .training import finish

CONTROL = "control"
"""The folder, inside the run's, of the same model without its pre-training."""


def finetune(
    run: str | Path,
    *data: str | Path,
    task: str | None = None,
    columns: str = "",
    validation: str | Path | None = None,
    budget: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    control: bool = False,
    arch: str | None = None,
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
    began: float | None = None,
) -> Model:
    """Fine-tunes a trained model and returns the new one; the same call on an interrupted
    fine-tuning goes on with it.

    Args:
        run: the model to start from, by path, by name under runs/, or `latest`.
        data: tables, or a built-in one.
        task: classify, entail, similarity, choice, chat, instruct, translate or summarize; by
            default what the columns say.
        columns: which column is which, as in "text=review,label=stars".
        validation: a table to measure on; by default a tenth of the rows is held out.
        budget: 10epochs, 10m, 2000steps; ten passes and at least 400 updates by default.
        out: the new run folder; runs/RUN-TASK by default.
        seed: of all random numbers.
        control: train the same model without its pre-training too, for comparison.
        arch: the file of the user's own architecture, where the run was made with one.
        quiet: say nothing.
        settings: any other setting, as in {"finetune.weights": "lora"}.
        began: time.monotonic() from which a wall-clock budget counts; now by default.

    Raises:
        ScrivenError: anything that cannot be done as asked, in one line.
        KeyboardInterrupt-like Interrupted: stopped by a signal, after saving.
    """
    asked = TrainRequest(
        base=str(run),
        sources=[str(source) for source in data],
        task=task,
        columns=columns,
        validation=None if validation is None else str(validation),
        budget=budget,
        out=None if out is None else str(out),
        seed=seed,
        arch=arch,
        quiet=quiet,
        settings=settings or {},
        began=began,
        control=control,
    )
    return finish(lambda: _both(asked) if control else start_or_resume(asked), arch)


def _both(asked: TrainRequest) -> TrainResult:
    """The fine-tuning, and the same without its pre-training, in a folder inside its own."""
    trained = start_or_resume(asked)
    inside = replace(
        asked,
        out=str(trained.folder / CONTROL),
        fresh=True,
        began=None,
        resume_command=asked.command,
    )
    return _beside(trained, start_or_resume(inside))


def _beside(trained: TrainResult, control: TrainResult) -> TrainResult:
    """Results with those of the control run among them, also in scriven.json."""
    kept = ("val_loss", "val_scores", "val_rows", "steps", "seconds")
    found: dict[str, Any] = {name: control.results[name] for name in kept}
    results = {**trained.results, "control": found}
    record = read_metadata(trained.folder)
    record["results"] = results
    write_metadata(trained.folder, record)
    rewrite_model_card(trained.folder, record)
    return TrainResult(trained.folder, results)
