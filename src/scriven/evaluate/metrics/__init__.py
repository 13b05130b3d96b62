"""Scores of tasks, each with the interval in which it would fall on other rows of the same kind.

Knows ids, numbers and texts: no model, no torch.
"""

from ..score_with_ci import ScoreWithCI
from .difference import difference
from .labels import Labels, score_labels
from .numbers import Numbers, score_numbers
from .texts import score_texts

__all__ = [
    "Labels",
    "Numbers",
    "ScoreWithCI",
    "difference",
    "score_labels",
    "score_numbers",
    "score_texts",
]
