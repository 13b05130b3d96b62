"""Scores of tasks, each with the interval in which it would fall on other rows of the same kind.

Knows ids, numbers and texts: no model, no torch.
"""

from .difference import difference
from .figure import Figure
from .labels import Labels, score_labels
from .numbers import Numbers, score_numbers
from .texts import score_texts

__all__ = [
    "Figure",
    "Labels",
    "Numbers",
    "difference",
    "score_labels",
    "score_numbers",
    "score_texts",
]
