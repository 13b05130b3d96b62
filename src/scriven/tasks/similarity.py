"""Similarity: how alike are two texts? (GPT-1 paper, section 3.3).

The pair is read in both orders, as neither text comes first, and the two hidden states are added
before the linear layer. The score is learned by squared error, in units of its standard deviation
over the training rows.
"""

from typing import ClassVar

from ..tokenizers.base import Tokenizer
from .shared.columns import Column, Row, number, text
from .shared.regression import NumberPrediction
from .shared.supervised import Example


class Similarity(NumberPrediction):
    """first, second -> score."""

    COLUMNS: ClassVar = {
        "first": Column(("first", "sentence1", "text1", "sentence_A", "question1"), text),
        "second": Column(("second", "sentence2", "text2", "sentence_B", "question2"), text),
        "score": Column(("score", "similarity", "relatedness_score"), number, answer=True),
    }
    ANSWER_COLUMN = "score"

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, one text, delimiter, the other, extract; in both orders."""
        # both orders are rows of one example; the head adds their hidden states
        one, cut = self.encode_parts(tokenizer, row["first"], row["second"])
        other, _ = self.encode_parts(tokenizer, row["second"], row["first"])
        return Example((one, other), label=self.scaled(row), cut=cut)


Task = Similarity
