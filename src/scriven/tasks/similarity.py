"""Similarity: how alike are two texts? (GPT-1 paper, section 3.3).

The pair is read in both orders, as neither text comes first, and the two hidden states are added
before the linear layer. The score is learned by squared error, in units of its standard deviation
over the training rows.
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
        "first": Column(("first", "sentence1", "text1", "sentence_A", "question1"), text),
        "second": Column(("second", "sentence2", "text2", "sentence_B", "question2"), text),
        "score": Column(("score", "similarity", "relatedness_score"), number, answer=True),
    }
    ANSWER_TYPE = "numbers"
    ANSWER_COLUMN = "score"
    loss_unit = "score"
    selection_metric = "loss"

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """Mean, standard deviation (spread) and range of the scores, which must differ."""
        scores = [float(row["score"]) for row in rows]
        mean = math.fsum(scores) / len(scores)
        spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
        if spread == 0 or not math.isfinite(spread):
            raise InputError(
                f"every row has the score {scores[0]:g}: there is nothing to tell apart"
            )
        return {"mean": mean, "spread": spread, "low": min(scores), "high": max(scores)}

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, one text, delimiter, the other, extract; in both orders."""
        # both orders are rows of one example; the head adds their hidden states
        one, cut = self.encode_parts(tokenizer, row["first"], row["second"])
        other, _ = self.encode_parts(tokenizer, row["second"], row["first"])
        score, config = row.get("score"), self.task_config
        label = None if score is None else (score - config["mean"]) / config["spread"]
        return Example((one, other), label=label, cut=cut)

    def loss_and_correct(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error; a score within half a standard deviation counts as right."""
        # in units of the training rows' standard deviation, as `encode` scales the labels
        outputs, targets = scores[:, 0], labels.to(scores.dtype)  # (E,)
        if self.criterion is None or not self.training:
            loss = (outputs - targets).square().sum()
        else:
            loss = self.criterion(outputs, targets) * len(targets)
        return loss, ((outputs.detach() - targets).abs() < 0.5).sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, 1) scores, clipped to the range of the training rows."""
        outputs, config = self.scores(self.hidden(batch), batch), self.task_config
        scores: Tensor = outputs * config["spread"] + config["mean"]
        return scores.clamp(config["low"], config["high"])

    def format_answer(
        self, prediction: Sequence[float], row: Row
    ) -> tuple[str, float, tuple[float, ...]]:
        """The score."""
        return f"{prediction[0]:.4g}", prediction[0], ()


Task = Similarity
