"""Regression: a number for a text, or for two texts in their order.

The input is that of classification, or of entailment for two texts (GPT-1 paper, section 3.3); the
linear layer has one output. Two texts of which neither comes first are the task `similarity`.
"""

from typing import ClassVar

from ..tokenizers.base import Tokenizer
from .shared.columns import Column, Row, number, text
from .shared.regression import NumberPrediction
from .shared.supervised import Example

FIRST = ("first", "sentence1", "text1", "sentence_A", "premise")
SECOND = ("second", "sentence2", "text2", "sentence_B", "hypothesis")


class Regression(NumberPrediction):
    """text, and optionally a second one -> number."""

    COLUMNS: ClassVar = {
        "text": Column(("text", "sentence", "review", "content"), text, also=FIRST),
        "number": Column(
            ("score", "rating", "stars", "grade", "number"), number, answer=True,
            also=("label", "value", "target", "price", "relatedness_score"),
        ),
        "second": Column(("second",), text, also=SECOND, optional=True),
    }  # fmt: skip
    ANSWER_COLUMN = "number"
    YIELDS = True  # beside a label, a column such as `stars` is one that nobody predicts

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, the text, delimiter and the second text where there is one, extract."""
        parts = [row[name] for name in ("text", "second") if name in row]
        ids, cut = self.encode_parts(tokenizer, *parts)
        return Example((ids,), label=self.scaled(row), cut=cut)


Task = Regression
