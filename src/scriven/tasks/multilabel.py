"""Multi-label classification: a text gets any number of labels.

The input is that of classification (GPT-1 paper, section 3.3); the linear layer has an output for
each label, which is learned on its own by binary cross entropy, so the loss of a text is the
negative log-likelihood of its set of labels in nats.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..errors import InputError
from ..tokenizers.base import Tokenizer
from .shared.classification import SequenceClassification, label_names
from .shared.columns import BadValue, Column, Row, label, parse_json_list, text
from .shared.supervised import Example


def _labels(value: Any) -> list[str]:
    """Any number of labels: a list, also as JSON in a text, or a text with `|`, `;` or commas."""
    value = parse_json_list(value)
    if value is None:
        return []
    if isinstance(value, str):
        separator = next((mark for mark in "|;," if mark in value), ",")
        value = [part for part in re.split(re.escape(separator), value) if part.strip()]
    if not isinstance(value, list):
        raise BadValue("holds no list of labels")
    return sorted({label(each) for each in value})


class Multilabel(SequenceClassification):
    """text -> labels."""

    COLUMNS: ClassVar = {
        "text": Column(("text", "sentence", "review", "content"), text),
        "labels": Column(
            ("labels", "tags", "categories", "topics", "genres"), _labels, answer=True,
            also=("label", "category"),
        ),
    }  # fmt: skip
    ANSWER_TYPE = "labelsets"
    ANSWER_COLUMN = "labels"
    loss_unit = "text"
    selection_metric = "loss"

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """The names of the labels, which must not all be the same set."""
        sets = [row["labels"] for row in rows]
        if len({tuple(each) for each in sets}) < 2:
            raise InputError(f"every row has the labels {sets[0]}: there is nothing to tell apart")
        # one label in all rows beside none is enough to tell apart
        names = {name for each in sets for name in each}
        if len(names) == 1:
            return {"labels": sorted(names)}
        return {"labels": label_names({"label": name} for each in sets for name in each)}

    @classmethod
    def gold_answer(cls, row: Row) -> tuple[str, ...]:
        """The labels, sorted."""
        return tuple(row["labels"])

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, text, extract; a label that training never saw is not learned."""
        ids, cut = self.encode_parts(tokenizer, row["text"])
        known, chosen = self.task_config["labels"], row.get("labels")
        label = None if chosen is None else tuple(float(name in chosen) for name in known)
        return Example((ids,), label=label, cut=cut)

    def loss_and_correct(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Binary cross entropy, summed over labels and examples; right are whole sets."""
        targets = labels.to(scores.dtype)  # (E, L)
        if self.criterion is None or not self.training:
            smoothing = self.label_smoothing if self.training else 0.0
            smooth = targets * (1 - smoothing) + smoothing / 2
            loss = F.binary_cross_entropy_with_logits(scores, smooth, reduction="sum")
        else:
            loss = self.criterion(scores, targets) * len(targets)
        return loss, ((scores.detach() > 0) == (targets > 0.5)).all(1).sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, L) the probability of each label."""
        return self.scores(self.hidden(batch), batch).sigmoid()

    def format_answer(
        self, prediction: Sequence[float], row: Row, example: Example
    ) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
        """The labels that are likelier than not."""
        names = self.task_config["labels"]
        chosen = tuple(name for name, chance in zip(names, prediction, strict=True) if chance > 0.5)
        return ", ".join(chosen), chosen, tuple(prediction)


Task = Multilabel
