"""chrF, the F-score of character n-grams, from 0 to 100, as sacrebleu computes it."""

from ..bootstrap import Statistic
from .base import sacrebleu_statistic

SCORES = ("texts",)
ORDER = 2


def statistic(references: list[str], written: list[str]) -> Statistic:
    """An empty written text scores 0, against an empty reference too."""
    return sacrebleu_statistic("CHRF", references, written)
