"""Multinomial logistic regression with an L2 cost, fitted by L-BFGS."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .sparse import Sparse

STEPS = 100


@dataclass(frozen=True)
class Weights:
    """What is fitted."""

    each: Tensor
    """(features, labels)."""
    bias: Tensor
    """(labels,), which costs nothing."""

    @classmethod
    def zero(cls, features: int, labels: int) -> Self:
        """Every label as likely."""
        return cls(torch.zeros(features, labels), torch.zeros(labels))

    def logits(self, matrix: Sparse) -> Tensor:
        """(n, f) -> (n, labels)."""
        return matrix.times(self.each) + self.bias


def fit_logistic(
    matrix: Sparse, answers: Tensor, strength: float, start: Weights, *, precise: float = 1e-5
) -> Weights:
    """The minimum of the summed -ln(probability) plus strength / 2 · the squared weights.

    Args:
        matrix: (n, f), of the dtype of `start`.
        answers: (n,) int64, which label is right.
        start: where to begin; the minimum is the same from anywhere.
        precise: largest slope, per row, at which it is found.
    """
    turned = matrix.turned()
    each, bias = start.each.clone().requires_grad_(), start.bias.clone().requires_grad_()
    rows = len(matrix)
    right = F.one_hot(answers, len(bias)).to(each.dtype)
    optimizer = torch.optim.LBFGS(
        [each, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=precise, tolerance_change=0.0,
    )  # fmt: skip

    def loss() -> float:
        with torch.no_grad():
            likely = (matrix.times(each) + bias).log_softmax(1)
            wrong = (likely.exp() - right) / rows
            # the gradient by hand: autograd would turn the matrix anew in every step
            each.grad = turned.times(wrong).add_(each, alpha=strength / rows)
            bias.grad = wrong.sum(0)
            cost = strength / 2 * each.square().sum()
            return float((cost - (likely * right).sum()) / rows)

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Weights(each.detach(), bias.detach())
