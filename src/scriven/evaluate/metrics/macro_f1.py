"""Macro-averaged F1: the plain mean over labels of 2 · correct / (true + predicted)."""

import numpy as np

from ..bootstrap import Floats, Ids, Statistic
from .base import LabelPairs

SCORES = ("labels",)
ORDER = 2


def statistic(truth: Ids, predicted: Ids) -> Statistic:
    """truth, predicted: (n,) ids; a label counts where it is true or predicted at least once."""
    return LabelPairs.of(truth, predicted).statistic(macro_f1)


def macro_f1(true: Floats, predicted: Floats, correct: Floats) -> Floats:
    """(r, L) rows of each label -> (r,)."""
    either = true + predicted  # (r, L)
    occurs = either > 0
    f1 = np.divide(2 * correct, either, out=np.zeros_like(correct), where=occurs)
    return np.asarray(f1.sum(axis=1) / occurs.sum(axis=1))
