"""Entailment: does a hypothesis follow from a premise? (GPT-1 paper, section 3.3)."""

from typing import ClassVar

from .shared.classification import SequenceClassification
from .shared.columns import Column, label, text


class Entail(SequenceClassification):
    """premise, hypothesis -> label."""

    COLUMNS: ClassVar = {
        "premise": Column(("premise", "sentence1", "sentence_A", "text1", "question1"), text),
        "hypothesis": Column(("hypothesis", "sentence2", "sentence_B", "text2", "question2"), text),
        "label": Column(("label", "gold_label", "entailment_label"), label, answer=True),
    }
    UNLABELLED: ClassVar = frozenset({"-", "-1"})  # as in SNLI, and in Hugging Face's copies


Task = Entail
