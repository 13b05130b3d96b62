"""Classification: a text gets one of several labels (GPT-1 paper, section 3.3)."""

from collections.abc import Iterable
from typing import Any, ClassVar

from ..tokenizers.base import Tokenizer
from .shared.classification import SequenceClassification, label_index, label_names
from .shared.columns import Column, Row, label, text
from .shared.supervised import Example


class Classify(SequenceClassification):
    """text -> label."""

    COLUMNS: ClassVar = {
        "text": Column(("text", "sentence", "review", "content"), text),
        "label": Column(("label", "class", "category", "sentiment", "topic"), label, answer=True),
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
        """Start, text, extract."""
        ids, cut = self.encode_parts(tokenizer, row["text"])
        return Example(
            (ids,), label=label_index(row.get("label"), self.task_config["labels"]), cut=cut
        )


Task = Classify
