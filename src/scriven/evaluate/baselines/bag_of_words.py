"""Which words and pairs of words there are, in whatever order: a multinomial logistic regression.

How much large weights cost (L2) is chosen on a tenth of the training rows that is held out, and
the regression is then fitted to all of them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from .base import Answer, Row, no_rows
from .shared.features import Features
from .shared.logistic import Weights, fit_logistic
from .shared.sampled import sampled
from .shared.sparse import Sparse

TASKS = ("classify", "entail")

ROWS = 200_000
"""Training rows that are read at most, drawn from all of them."""

STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
"""Costs that are tried, of half the squared weights against the sum of the losses."""
USUAL = 30.0
"""Without rows enough to hold some out."""
FEWEST = 20
"""Rows from which on a tenth is held out."""


@dataclass(frozen=True)
class BagOfWords:
    """Answers with the likeliest label."""

    features: Features
    labels: tuple[str, ...]
    weights: Weights
    strength: float

    @property
    def note(self) -> str:
        return f"{len(self.features):,} words and pairs, L2 {self.strength:g}"

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        found: list[Answer] = []
        for some in _some(rows):
            places = self.weights.logits(self.features.matrix(some)).argmax(1)
            found += [self.labels[place] for place in places.tolist()]
        return found


def fit(rows: Iterable[Row]) -> BagOfWords:
    """Fits the regression; the same rows in the same order give the same weights.

    Raises:
        InputError: there are no rows.
    """
    kept = sampled(rows, ROWS)
    if not kept:
        raise no_rows()
    labels = tuple(sorted(Counter(row["label"] for row in kept)))
    place = {label: at for at, label in enumerate(labels)}
    features = Features.of(kept)
    answers = torch.tensor([place[row["label"]] for row in kept])
    matrix = features.matrix(kept)
    start = Weights.zero(len(features), len(labels))
    strength = USUAL
    if len(kept) >= FEWEST and len(labels) > 1:
        strength, start = _chosen(matrix, answers, start)
    weights = fit_logistic(matrix, answers, strength, start)
    return BagOfWords(features, labels, weights, strength)


def _chosen(matrix: Sparse, answers: torch.Tensor, start: Weights) -> tuple[float, Weights]:
    """The strength that is right most often on the held-out tenth, the strongest of equals.

    Each fit begins where the one before ended; the weights of the best are a beginning too.
    """
    order = torch.randperm(len(answers), generator=torch.Generator().manual_seed(0))
    held, used = order[: len(order) // 10], order[len(order) // 10 :]
    seen, unseen = matrix.rows(used), matrix.rows(held)
    best, most, chosen = STRENGTHS[0], -1, start
    for strength in STRENGTHS:
        start = fit_logistic(seen, answers[used], strength, start)
        right = int((start.logits(unseen).argmax(1) == answers[held]).sum())
        if right > most:
            best, most, chosen = strength, right, start
    return best, chosen


def _some(rows: Iterable[Row], size: int = 4096) -> Iterable[Sequence[Row]]:
    """The rows a few thousand at a time."""
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
