"""Similarity: how alike are two texts? Read in both orders, as neither comes first (GPT-1 paper,
section 3.3): what the model makes of both is added up before the linear layer.

The score is learned as a number, by squared error, in units of its spread over the training rows.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..data.batch import Batch
from ..errors import InputError
from ..tokenizers.base import Tokenizer
from .shared.classification import SequenceClassification
from .shared.columns import Column, Row, number, text
from .shared.supervised import Example


class Similarity(SequenceClassification):
    """first, second -> score."""

    COLUMNS: ClassVar = {
        "first": Column(("first", "sentence1", "text1", "sentence_A"), text),
        "second": Column(("second", "sentence2", "text2", "sentence_B"), text),
        "score": Column(("score", "similarity", "relatedness_score"), number, answer=True),
    }
    ANSWER_TYPE = "numbers"
    ANSWER_COLUMN = "score"
    loss_unit = "score"
    selection_metric = "loss"

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """Mean, spread and range of the scores.

        Raises:
            InputError: all are the same.
        """
        scores = [float(row["score"]) for row in rows]
        mean = math.fsum(scores) / len(scores)
        spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
        if spread == 0 or not math.isfinite(spread):
            raise InputError(
                f"every row has the score {scores[0]:g}: there is nothing to tell apart"
            )
        return {"mean": mean, "spread": spread, "low": min(scores), "high": max(scores)}

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, one, delimiter, the other, extract; in both orders."""
        one, cut = self.inputs(tokenizer, row["first"], row["second"])
        other, _ = self.inputs(tokenizer, row["second"], row["first"])
        score = row.get("score")
        known = (
            None
            if score is None
            else (score - self.task_config["mean"]) / self.task_config["spread"]
        )
        return Example((one, other), label=known, cut=cut)

    def loss_and_correct(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error; a score within half a spread counts as right."""
        found, wanted = scores[:, 0], labels.to(scores.dtype)
        if self.criterion is None or not self.training:
            loss = (found - wanted).square().sum()
        else:
            loss = self.criterion(found, wanted) * len(wanted)
        return loss, ((found.detach() - wanted).abs() < 0.5).sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, 1) scores, in the range of the training rows."""
        found = self.scores(self.hidden(batch), batch)
        whole: Tensor = found * self.task_config["spread"] + self.task_config["mean"]
        return whole.clamp(self.task_config["low"], self.task_config["high"])

    def format_answer(
        self, said: Sequence[float], row: Row
    ) -> tuple[str, float, tuple[float, ...]]:
        """The score."""
        return f"{said[0]:.4g}", said[0], ()


Task = Similarity
