"""Pearson correlation of true and predicted numbers; 0 where a side is constant."""

import numpy as np

from ..bootstrap import Floats, Statistic
from .base import correlation, row_statistic

SCORES = ("numbers",)
ORDER = 1


def statistic(truth: Floats, predicted: Floats) -> Statistic:
    """truth, predicted: (n,) finite numbers."""
    x, y = _scaled(truth), _scaled(predicted)
    constant = not (x.any() and y.any())
    moments = np.stack([x, y, x * x, y * y, x * y], axis=1)  # (n, 5)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        if constant:
            return np.zeros(len(drawn))
        mx, my, xx, yy, xy = (drawn @ moments / drawn.shape[1]).T
        return correlation(xy - mx * my, xx - mx * mx, yy - my * my)

    return row_statistic(len(x), score)


def _scaled(numbers: Floats) -> Floats:
    """Shifted to mean 0 and scaled to magnitude 1; all 0 where the numbers are equal."""
    if numbers.min() == numbers.max():
        return np.zeros_like(numbers)
    shifted = numbers / np.abs(numbers).max()  # to magnitude 1 first: tiny numbers keep digits
    shifted = shifted - shifted.mean()
    largest = np.abs(shifted).max()
    return np.asarray(shifted / largest if largest else shifted)
