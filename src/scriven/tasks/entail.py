"""Entailment: does a hypothesis follow from a premise? (GPT-1 paper, section 3.3)."""

from collections.abc import Iterable
from typing import Any, ClassVar

from ..tokenizers.base import Tokenizer
from .shared.classification import SequenceClassification, label_index, label_names
from .shared.columns import Column, Row, label, text
from .shared.supervised import Example


class Entail(SequenceClassification):
    """premise, hypothesis -> label."""

    COLUMNS: ClassVar = {
        "premise": Column(("premise", "sentence1", "sentence_A"), text),
        "hypothesis": Column(("hypothesis", "sentence2", "sentence_B"), text),
        "label": Column(("label", "gold_label", "entailment_label"), label, answer=True),
    }
    ANSWER_TYPE = "labels"
    ANSWER_COLUMN = "label"

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """The names of the labels."""
        return {"labels": label_names(rows)}

    @property
    def outputs(self) -> int:
        """One for each label."""
        return len(self.task_config["labels"])

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, premise, delimiter, hypothesis, extract."""
        ids, cut = self.encode_parts(tokenizer, row["premise"], row["hypothesis"])
        return Example(
            (ids,), label=label_index(row.get("label"), self.task_config["labels"]), cut=cut
        )


Task = Entail
