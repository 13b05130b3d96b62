"""BLEU of written texts against references, from 0 to 100, as sacrebleu computes it."""

from ..bootstrap import Statistic
from .base import sacrebleu_statistic

SCORES = ("texts",)
ORDER = 1


def statistic(references: list[str], written: list[str]) -> Statistic:
    """An empty written text scores 0, against an empty reference too."""
    return sacrebleu_statistic("BLEU", references, written)
