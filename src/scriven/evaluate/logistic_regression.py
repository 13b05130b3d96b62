"""Multinomial logistic regression with an L2 penalty, fitted by L-BFGS on a sparse matrix.

Our own, so that the bag-of-words baseline needs no scikit-learn; the tests compare the two.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ITER = 100


@dataclass(frozen=True)
class SparseMatrix:
    """(n, f) in compressed rows (CSR): row i has the entries `row_starts[i]:row_starts[i + 1]`.

    Its product with a narrow dense matrix is an embedding bag, so one kernel does all the work.
    """

    row_starts: Tensor  # (n + 1,) int64
    columns: Tensor  # (entries,) int64
    values: Tensor  # (entries,) float32 or float64
    width: int  # f

    @classmethod
    def of(cls, rows: list[list[int]], weights: Tensor) -> Self:
        """rows: the columns of each row's entries, whose values are the weights (f,) there."""
        lengths = torch.tensor([0, *map(len, rows)])
        columns = torch.tensor([column for row in rows for column in row], dtype=torch.int64)
        return cls(lengths.cumsum(0), columns, weights[columns], len(weights))

    def __len__(self) -> int:
        """n."""
        return len(self.row_starts) - 1

    def matmul(self, dense: Tensor) -> Tensor:
        """(f, c) -> (n, c)."""
        return F.embedding_bag(
            self.columns, dense, self.row_starts, mode="sum", per_sample_weights=self.values,
            include_last_offset=True,
        )  # fmt: skip

    def transpose(self) -> "SparseMatrix":
        """(f, n)."""
        order = self.columns.argsort(stable=True)  # entries by column, in the order of rows
        of_row = torch.arange(len(self)).repeat_interleave(self.row_starts.diff())
        lengths = torch.bincount(self.columns, minlength=self.width)
        return SparseMatrix(_starts(lengths), of_row[order], self.values[order], len(self))

    def select_rows(self, rows: Tensor) -> "SparseMatrix":
        """Some of the rows, in the order of `rows` (m,)."""
        lengths = self.row_starts.diff()[rows]
        starts = _starts(lengths)
        shift = (self.row_starts[rows] - starts[:-1]).repeat_interleave(lengths)
        entries = torch.arange(int(starts[-1])) + shift
        return SparseMatrix(starts, self.columns[entries], self.values[entries], self.width)


def _starts(lengths: Tensor) -> Tensor:
    """(n,) row lengths -> (n + 1,) where each row starts."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


@dataclass(frozen=True)
class LogisticRegression:
    """The fitted parameters."""

    weight: Tensor  # (f, labels)
    bias: Tensor  # (labels,), not penalised

    @classmethod
    def zero(cls, features: int, labels: int) -> Self:
        """All labels are equally likely."""
        return cls(torch.zeros(features, labels), torch.zeros(labels))

    def logits(self, matrix: SparseMatrix) -> Tensor:
        """(n, f) -> (n, labels)."""
        return matrix.matmul(self.weight) + self.bias


def fit_logistic_regression(
    matrix: SparseMatrix,
    labels: Tensor,
    l2: float,
    start: LogisticRegression,
    *,
    tolerance: float = 1e-5,
) -> LogisticRegression:
    """The minimum of the summed negative log-likelihood plus l2 / 2 · the squared weights.

    matrix: (n, f), of the dtype of `start`. labels: (n,) int64. tolerance: largest gradient, per
    row, at the minimum, which is the same from any `start`.
    """
    transposed = matrix.transpose()
    weight, bias = start.weight.clone().requires_grad_(), start.bias.clone().requires_grad_()
    rows = len(matrix)
    one_hot = F.one_hot(labels, len(bias)).to(weight.dtype)  # (n, labels)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_ITER, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=tolerance, tolerance_change=0.0,
    )  # fmt: skip

    def loss() -> float:
        # the gradient by hand: autograd would transpose the matrix anew in every step
        with torch.no_grad():
            log_probs = (matrix.matmul(weight) + bias).log_softmax(1)  # (n, labels)
            residual = (log_probs.exp() - one_hot) / rows  # d loss / d logits, (n, labels)
            weight.grad = transposed.matmul(residual).add_(weight, alpha=l2 / rows)
            bias.grad = residual.sum(0)
            penalty = l2 / 2 * weight.square().sum()  # the bias is not penalised
            return float((penalty - (log_probs * one_hot).sum()) / rows)

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return LogisticRegression(weight.detach(), bias.detach())
