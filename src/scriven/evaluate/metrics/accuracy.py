"""Accuracy: the fraction of rows with the right label or choice."""

from ..bootstrap import Ids, Statistic, proportion
from .base import UNKNOWN

SCORES = ("labels", "choices")
ORDER = 1


def statistic(truth: Ids, predicted: Ids) -> Statistic:
    """truth, predicted: (n,) ids; an unknown truth is never right."""
    return proportion((truth == predicted) & (truth != UNKNOWN))
