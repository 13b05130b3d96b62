"""Exact match: the fraction of written texts that equal their reference but for outer spaces."""

import numpy as np

from ..bootstrap import Statistic, proportion

SCORES = ("texts",)
ORDER = 4


def statistic(references: list[str], written: list[str]) -> Statistic:
    """Two empty texts match."""
    same = [a.strip() == b.strip() for a, b in zip(references, written, strict=True)]
    return proportion(np.array(same))
