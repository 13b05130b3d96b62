"""The control run of a fine-tuning: the same model and rows without pre-training."""

from dataclasses import replace
from typing import Any

from ..runs.huggingface import rewrite_model_card
from ..runs.metadata import read_metadata, write_metadata
from .request import TrainRequest
from .run import TrainResult, start_or_resume

CONTROL = "control"
"""The folder of the control run, inside the run folder of the fine-tuning."""


def finetune_with_control(request: TrainRequest) -> TrainResult:
    """Fine-tunes, then trains the control from fresh weights, and saves both results together."""
    trained = start_or_resume(request)
    control = start_or_resume(
        replace(
            request,
            out=str(trained.folder / CONTROL),
            fresh=True,
            began=None,
            resume_command=request.command,
        )
    )
    names = ("val_loss", "val_scores", "val_rows", "steps", "seconds")
    scores: dict[str, Any] = {name: control.results[name] for name in names}
    results = {**trained.results, "control": scores}
    metadata = read_metadata(trained.folder)
    metadata["results"] = results
    write_metadata(trained.folder, metadata)
    rewrite_model_card(trained.folder, metadata)
    return TrainResult(trained.folder, results)
