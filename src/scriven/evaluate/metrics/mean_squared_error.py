"""Mean squared error of predicted numbers."""

from ..bootstrap import Floats, Statistic
from .base import row_statistic

SCORES = ("numbers",)
ORDER = 3


def statistic(truth: Floats, predicted: Floats) -> Statistic:
    """truth, predicted: (n,) finite numbers."""
    errors = (truth - predicted) ** 2
    return row_statistic(len(errors), lambda drawn: drawn @ errors / drawn.shape[1])
