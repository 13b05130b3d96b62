"""How a notebook shows a trained model: its shape, its result, its loss curves and a sample."""

from pathlib import Path
from typing import Any

from .notebook import loss_curves, model_card
from .tasks.base import BaseTask


class ModelCard:
    """Shows the run of a model as a card, in Jupyter and whatever else asks for HTML."""

    folder: Path
    metadata: dict[str, Any]
    task: BaseTask

    def _repr_html_(self) -> str:
        from .train.trackers.jsonl import read_events

        parameters = sum(weight.numel() for weight in self.task.parameters())
        curve = loss_curves(read_events(self.folder / "metrics.jsonl"))
        return model_card(self.metadata, parameters, curve)
