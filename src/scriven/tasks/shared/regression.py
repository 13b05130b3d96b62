"""Tasks whose answer is a number: one output, learned by squared error.

The output is in units of the standard deviation of the training rows' numbers, counted from their
mean, so the same learning rate suits any scale; an answer is clipped to the range of those numbers.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...data.batch import Batch
from ...errors import InputError
from .classification import SequenceClassification
from .columns import Row
from .supervised import Example


class NumberPrediction(SequenceClassification):
    """A number for each row. A task file adds columns, of which `ANSWER_COLUMN` is the number."""

    ANSWER_TYPE = "numbers"
    loss_unit = "score"
    selection_metric = "loss"

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """Mean, standard deviation (spread) and range of the numbers, which must differ."""
        scores = [float(row[cls.ANSWER_COLUMN]) for row in rows]
        mean = math.fsum(scores) / len(scores)
        spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
        if spread == 0 or not math.isfinite(spread):
            raise InputError(
                f"every row has the {cls.ANSWER_COLUMN} {scores[0]:g}: there is nothing to tell "
                "apart"
            )
        return {"mean": mean, "spread": spread, "low": min(scores), "high": max(scores)}

    def scaled(self, row: Row) -> float | None:
        """The number of a row in units of the spread; None where it is not known."""
        score, config = row.get(self.ANSWER_COLUMN), self.task_config
        return None if score is None else (score - config["mean"]) / config["spread"]

    def loss_and_correct(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error; a number within half a standard deviation counts as right."""
        outputs, targets = scores[:, 0], labels.to(scores.dtype)  # (E,)
        if self.criterion is None or not self.training:
            loss = (outputs - targets).square().sum()
        else:
            loss = self.criterion(outputs, targets) * len(targets)
        return loss, ((outputs.detach() - targets).abs() < 0.5).sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, 1) numbers, clipped to the range of the training rows."""
        outputs, config = self.scores(self.hidden(batch), batch), self.task_config
        scores: Tensor = outputs * config["spread"] + config["mean"]
        return scores.clamp(config["low"], config["high"])

    def format_answer(
        self, prediction: Sequence[float], row: Row, example: Example
    ) -> tuple[str, float, tuple[float, ...]]:
        """The number."""
        return f"{prediction[0]:.4g}", prediction[0], ()
