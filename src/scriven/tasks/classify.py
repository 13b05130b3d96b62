"""Classification: a text gets one of several labels (GPT-1 paper, section 3.3)."""

from typing import ClassVar

from .shared.classification import SequenceClassification
from .shared.columns import Column, label, text


class Classify(SequenceClassification):
    """text -> label."""

    COLUMNS: ClassVar = {
        "text": Column(("text", "sentence", "review", "content"), text),
        "label": Column(("label", "class", "category", "sentiment", "topic"), label, answer=True),
    }


Task = Classify
