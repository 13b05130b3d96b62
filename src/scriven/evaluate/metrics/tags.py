"""Metrics of tags: precision, recall and F1 of entities, as conlleval and seqeval count them
(Tjong Kim Sang & De Meulder 2003; Nakayama 2018), and the accuracy of the tags.

An entity is right if its type, its first and its last word are. B- begins one, I- goes on, E- and
S- end one where a scheme has them; an I- after another type or after O begins one too.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..bootstrap import Floats, Statistic
from .base import Metric, row_statistic

Tags = Sequence[str]
Entity = tuple[str, int, int]


def entities(tags: Tags) -> set[Entity]:
    """(type, first word, last word) of each entity of a text."""
    found: set[Entity] = set()
    before, before_type, first = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, rest = tag[:1], tag[1:]
        kind = (rest.partition("-")[2] if "-" in rest else rest) or "_"
        differ = kind != before_type
        if (
            before in "ES"
            or (before in "BI" and prefix in "BSO")
            or (differ and before not in "O.")
        ):
            found.add((before_type, first, place - 1))
        if (
            prefix in "BS"
            or (before in "ESO" and prefix in "EI")
            or (differ and prefix not in "O.")
        ):
            first = place
        before, before_type = prefix, kind
    return found


def entity_score(name: str, truth: Sequence[Tags], predicted: Sequence[Tags]) -> Statistic:
    """precision, recall or f1 over all entities of all texts; 0 where there are none."""
    rows = []
    for true, answered in zip(truth, predicted, strict=True):
        right, found = entities(true), entities(answered)
        rows.append((len(right & found), len(found), len(right)))
    counts = np.array(rows, np.float64)  # (n, 3)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        correct, found, right = (drawn @ counts).T
        of = {"precision": found, "recall": right, "f1": (found + right) / 2}[name]
        return np.asarray(np.divide(correct, of, out=np.zeros_like(correct), where=of > 0))

    return row_statistic(len(counts), score)


def accuracy(truth: Sequence[Tags], predicted: Sequence[Tags]) -> Statistic:
    """The fraction of words with the right tag."""
    pairs = zip(truth, predicted, strict=True)
    counts = np.array(
        [(sum(map(str.__eq__, true, said)), len(true)) for true, said in pairs], np.float64
    )

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        right, words = (drawn @ counts).T
        return np.asarray(np.divide(right, words, out=np.zeros_like(right), where=words > 0))

    return row_statistic(len(counts), score)


METRICS = {
    "f1": Metric(("tags",), 1, partial(entity_score, "f1")),
    "precision": Metric(("tags",), 2, partial(entity_score, "precision")),
    "recall": Metric(("tags",), 3, partial(entity_score, "recall")),
    "accuracy": Metric(("tags",), 4, accuracy),
}
