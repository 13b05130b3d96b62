"""Matthews correlation of true and predicted labels, from -1 to 1.

Over many labels it is Gorodkin's R_K (2004, equation 8); over two it is Matthews' own (1975).
"""

import numpy as np

from ..bootstrap import Floats, Ids, Statistic
from .base import LabelPairs

SCORES = ("labels",)
ORDER = 3


def statistic(truth: Ids, predicted: Ids) -> Statistic:
    """truth, predicted: (n,) ids; 0, as it is undefined, where a side has one label only."""
    return LabelPairs.of(truth, predicted).statistic(matthews)


def matthews(true: Floats, predicted: Floats, correct: Floats) -> Floats:
    """(r, L) rows of each label -> (r,)."""
    rows, right = true.sum(axis=1), correct.sum(axis=1)  # (r,) each
    covariance = right * rows - (true * predicted).sum(axis=1)
    root = np.sqrt((rows**2 - (true**2).sum(axis=1)) * (rows**2 - (predicted**2).sum(axis=1)))
    value = np.divide(covariance, root, out=np.zeros_like(covariance), where=root > 0)
    return np.asarray(value.clip(-1.0, 1.0))
