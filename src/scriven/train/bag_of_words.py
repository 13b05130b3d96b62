"""Fits the bag of words that a head adds to its scores (`tasks/shared/word_features.py`).

The linear model is fitted before the first step. What it says of a training row
while the model learns comes from a fit without that row (stacking: Wolpert 1992), as it would be
far too sure of rows it has learned: the model then learns what words do not tell.
"""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluate.logistic_regression import (
    Link,
    LogisticRegression,
    SparseMatrix,
    fit_linear,
)
from ..evaluate.tfidf import idf
from ..tasks.shared.supervised import Example
from ..tasks.shared.word_features import BIAS, HASHED

FOLDS = 5
MIN_ROWS = 20  # fewer different rows tell nothing of words: all outputs are zero
MAX_FITTED, MAX_TARGETS = 50_000, 20_000_000
"""Rows that are fitted at most, and rows times outputs; the other rows see the fit of these."""
MIN_FREQUENCY = 2  # a feature of a single row tells nothing of others
MAX_WEIGHTS = (
    1_000_000  # features times outputs that are fitted: the features of most rows are kept
)
SHARE_WEIGHT = 3.0
"""How much larger the features are that say what two texts share: there are few of them, and a
smaller weight costs less penalty."""
PENALTIES = (10_000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
"""L2 penalties that are tried, from the strongest until the loss of rows left out rises."""
TOLERANCE = 3e-4
LINK_OF: dict[str, Link] = {"labels": "softmax", "numbers": "identity"}


@dataclass(frozen=True)
class FittedBag:
    """The table of a fitted bag of words, and what it says of the training rows."""

    table: Tensor
    """(rows, outputs) float32: a row for each feature, whose sum over a text is added."""
    priors: Tensor
    """(n, outputs) float32: its outputs for each training row, from a fit without it."""


def fit_bag(examples: Sequence[Example], rows: int, outputs: int, answers: str) -> FittedBag:
    """Fits the table to training rows with labels; the same rows give the same table.

    Args:
        examples: encoded with their features.
        rows, outputs: size of the table.
        answers: `ANSWER_TYPE` of the task.
    """
    link = LINK_OF[answers]
    empty = FittedBag(torch.zeros(rows, outputs), torch.zeros(len(examples), outputs))
    # 1. the rows that are fitted, as a sparse matrix of the features that several of them have
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
    size = min(MAX_FITTED, MAX_TARGETS // outputs)
    fitted, others = order[:size], order[size:]
    counts = Counter(row for number in fitted.tolist() for row in examples[number].features)
    common = counts.most_common(1 + MAX_WEIGHTS // outputs)
    known = [row for row, count in common if count >= MIN_FREQUENCY and row != BIAS]
    # equal rows are left out together, or each would be known by its copies
    groups: dict[bytes, int] = {}
    group_of = [
        groups.setdefault(examples[number].features.tobytes(), len(groups))
        for number in fitted.tolist()
    ]
    if len(groups) < MIN_ROWS or not known:
        return empty
    columns = {row: column for column, row in enumerate(known)}
    weights = torch.tensor(
        [SHARE_WEIGHT if row < HASHED else idf(len(fitted), counts[row]) for row in known]
    )
    present = ([columns[row] for row in each.features if row in columns] for each in examples)
    matrix = SparseMatrix.of(list(present), weights)
    # 2. the penalty, and what fits with it say of rows that they have not seen
    targets = target_outputs([examples[number] for number in fitted.tolist()], outputs, link)
    inside = matrix.select_rows(fitted)
    penalty, start, priors = _cross_validate(inside, targets, torch.tensor(group_of) % FOLDS, link)
    # 3. the table, from all of them
    fit = fit_linear(inside, targets, penalty, start, link, tolerance=TOLERANCE)
    empty.table[torch.tensor(known)] = fit.weight * weights[:, None]
    empty.table[BIAS] = fit.bias
    empty.priors[fitted] = priors
    if len(others):
        empty.priors[others] = fit.logits(matrix.select_rows(others))
    return empty


def target_outputs(examples: Sequence[Example], outputs: int, link: Link) -> Tensor:
    """(n, outputs) float32: one-hot labels, or the numbers themselves."""
    labels = [example.label for example in examples]
    if link == "softmax":
        return F.one_hot(torch.tensor(labels), outputs).float()
    return torch.tensor(labels, dtype=torch.float32)[:, None]


def _cross_validate(
    matrix: SparseMatrix, targets: Tensor, fold_of: Tensor, link: Link
) -> tuple[float, LogisticRegression, Tensor]:
    """(penalty, a fit with it, outputs (n, c) for each row of a fit without that row).

    The penalty is the one whose fit has the least loss on the first part that is left out;
    `fold_of` (n,) is the part of each row.
    """
    folds = [
        (torch.nonzero(fold_of != k)[:, 0], torch.nonzero(fold_of == k)[:, 0]) for k in range(FOLDS)
    ]
    measure = F.cross_entropy if link == "softmax" else F.mse_loss
    # 1. the penalty
    kept, left_out = folds[0]
    train, rest = matrix.select_rows(kept), matrix.select_rows(left_out)
    fit = chosen = LogisticRegression.zero(matrix.width, targets.size(1))
    best, penalty = math.inf, PENALTIES[0]
    for each in PENALTIES:
        # from the fit with the penalty before (a warm start along the regularisation path)
        fit = fit_linear(train, targets[kept], each, fit, link, tolerance=TOLERANCE)
        loss = float(measure(fit.logits(rest), targets[left_out]))
        if not loss < best:
            break
        best, penalty, chosen = loss, each, fit
    # 2. the outputs for the rows of every fold
    outputs = torch.zeros_like(targets)
    outputs[left_out] = chosen.logits(rest)
    for kept, left_out in folds[1:]:
        train = matrix.select_rows(kept)
        fit = fit_linear(train, targets[kept], penalty, chosen, link, tolerance=TOLERANCE)
        outputs[left_out] = fit.logits(matrix.select_rows(left_out))
    return penalty, chosen, outputs


def with_priors(examples: Sequence[Example], priors: Tensor) -> list[Example]:
    """Training rows that carry what the bag of words says of them."""
    rows = zip(examples, priors, strict=True)
    return [replace(example, prior=array("f", prior.tolist())) for example, prior in rows]
