"""Multinomial logistic and linear regression with an L2 penalty, fitted by L-BFGS on a sparse or a
dense matrix.

Our own, so that the bag-of-words baseline needs no scikit-learn; the tests compare the two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

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
    """`fit_linear` for labels (n,) int64."""
    one_hot = F.one_hot(labels, len(start.bias)).to(start.weight.dtype)  # (n, labels)
    return fit_linear(matrix, one_hot, l2, start, tolerance=tolerance)


def fit_linear(
    matrix: SparseMatrix | Tensor,
    targets: Tensor,
    l2: float,
    start: LogisticRegression,
    link: "Link" = "softmax",
    *,
    tolerance: float = 1e-5,
    offset: Tensor | None = None,
    bias: bool = True,
) -> LogisticRegression:
    """The minimum of the summed negative log-likelihood plus l2 / 2 · the squared weights.

    Args:
        matrix: (n, f), of the dtype of `start`; a dense one is a tensor.
        targets: (n, c) probabilities of labels, or numbers for the link `identity`, whose negative
            log-likelihood is half the squared error.
        tolerance: largest gradient, per row, at the minimum, which is the same from any `start`.
        offset: (n, c) outputs of another model, to which those of this one are added.
        bias: whether the model has one; otherwise that of `start` stays.
    """
    transposed = matrix.mT if isinstance(matrix, Tensor) else matrix.transpose()
    weight, intercept = start.weight.clone().requires_grad_(), start.bias.clone().requires_grad_()
    rows, (mean, nll) = len(matrix), LINKS[link]
    optimizer = torch.optim.LBFGS(
        [weight, intercept] if bias else [weight], max_iter=MAX_ITER, history_size=10,
        line_search_fn="strong_wolfe", tolerance_grad=tolerance, tolerance_change=0.0,
    )  # fmt: skip

    def loss() -> float:
        # the gradient by hand: autograd would transpose the matrix anew in every step
        with torch.no_grad():
            outputs = matrix.matmul(weight) + intercept  # (n, c)
            if offset is not None:
                outputs += offset
            residual = (mean(outputs) - targets) / rows  # d loss / d outputs, (n, c)
            weight.grad = transposed.matmul(residual).add_(weight, alpha=l2 / rows)
            intercept.grad = residual.sum(0)
            penalty = l2 / 2 * weight.square().sum()  # the bias is not penalised
            return float((penalty + nll(outputs, targets)) / rows)

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return LogisticRegression(weight.detach(), intercept.detach())


def _softmax_nll(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(outputs.log_softmax(1) * targets).sum()


def _half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum() / 2


Link = Literal["softmax", "identity"]
LINKS: dict[Link, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "softmax": (lambda outputs: outputs.softmax(1), _softmax_nll),
    "identity": (lambda outputs: outputs, _half_squared_error),
}
"""Kind of targets -> their mean by the outputs of the linear model, and the summed negative
log-likelihood of (outputs, targets). The gradient of each is mean - targets (McCullagh and Nelder
1989, section 2.2)."""
