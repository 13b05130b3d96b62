"""Ridge regression (Hoerl & Kennard 1970) on words and pairs of neighbouring words.

The features are those of the bag-of-words classifier; of two texts also which words they share.
The L2 penalty is chosen on a held-out tenth of the training rows; the regression is then fitted to
all of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..logistic_regression import SparseMatrix
from .bag_of_words import BATCH, MAX_ROWS, MIN_ROWS, Features
from .base import Answer, FittedBaseline, Row, reservoir_sample

TASKS = ("regression",)

PENALTIES = (10_000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0)
"""L2 penalties that are tried, on the squared weights against the sum of the squared errors."""
DEFAULT_PENALTY = 300.0  # where there are too few rows to hold some out
MAX_ITER = 300
TOLERANCE = 1e-8  # of the gradient, relative to that of zero weights


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Fits the regression; the same rows in the same order give the same weights.

    Raises:
        InputError: there are no rows.
    """
    sample = reservoir_sample(rows, MAX_ROWS)
    features = Features.of(sample)
    numbers = torch.tensor([float(row["number"]) for row in sample], dtype=torch.float64)
    matrix = _double(features.matrix(sample))  # (n, f), sparse
    penalty = DEFAULT_PENALTY
    if len(sample) >= MIN_ROWS:
        penalty = _choose_penalty(matrix, numbers)
    ridge = fit_ridge(matrix, numbers, penalty)
    low, high = float(numbers.min()), float(numbers.max())

    def answers(rows: Sequence[Row]) -> list[Answer]:
        """The predicted number of each row, within the range of the training rows."""
        found: list[Answer] = []
        for start in range(0, len(rows), BATCH):
            part = _double(features.matrix(rows[start : start + BATCH]))
            found += ridge.predict(part).clamp(low, high).tolist()
        return found

    note = f"{len(features.columns):,} words and pairs, L2 {penalty:g}"
    return FittedBaseline(note, answers)


@dataclass(frozen=True)
class Ridge:
    """The fitted parameters."""

    weight: Tensor  # (f,)
    bias: Tensor  # scalar, not penalised

    def predict(self, matrix: SparseMatrix) -> Tensor:
        """(n, f) -> (n,)."""
        return matrix.matmul(self.weight[:, None])[:, 0] + self.bias


def fit_ridge(matrix: SparseMatrix, numbers: Tensor, l2: float) -> Ridge:
    """The minimum of the summed squared errors plus l2 · the squared weights, by conjugate
    gradients (Hestenes & Stiefel 1952) on the normal equations of centred columns.

    matrix: (n, f) float64. numbers: (n,) float64.
    """
    transposed, rows = matrix.transpose(), len(matrix)
    ones = torch.ones(rows, 1, dtype=numbers.dtype)
    column_mean = transposed.matmul(ones)[:, 0] / rows  # (f,)

    def normal(weight: Tensor) -> Tensor:
        """The matrix of the normal equations times (f,)."""
        residual = matrix.matmul(weight[:, None])[:, 0] - column_mean @ weight  # (n,)
        back = transposed.matmul(residual[:, None])[:, 0] - column_mean * residual.sum()
        return back + l2 * weight

    centred = numbers - numbers.mean()
    right_side = transposed.matmul(centred[:, None])[:, 0] - column_mean * centred.sum()
    weight = torch.zeros_like(right_side)
    residual, direction = right_side.clone(), right_side.clone()
    size = first = residual @ residual
    for _ in range(MAX_ITER):
        if size <= TOLERANCE**2 * first:
            break
        image = normal(direction)
        step = size / (direction @ image)
        weight += step * direction
        residual -= step * image
        before, size = size, residual @ residual
        direction = residual + size / before * direction
    return Ridge(weight, numbers.mean() - column_mean @ weight)


def _choose_penalty(matrix: SparseMatrix, numbers: Tensor) -> float:
    """The penalty with the smallest squared error on held-out rows, the strongest of equals."""
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))
    held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
    train, test = matrix.select_rows(rest), matrix.select_rows(held_out)

    def error(penalty: float) -> float:
        predicted = fit_ridge(train, numbers[rest], penalty).predict(test)
        return float((predicted - numbers[held_out]).square().sum())

    return min(PENALTIES, key=error)


def _double(matrix: SparseMatrix) -> SparseMatrix:
    return replace(matrix, values=matrix.values.double())
