"""Muon: momentum whose update matrices are made orthogonal (Jordan et al. 2024)."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..distributed import SINGLE_PROCESS, DistributedContext
from .parallel import like, whole
from .plain import Plain

# quintic Newton-Schulz coefficients chosen for a steep slope at zero (Jordan et al. 2024)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


STACKED = 1 << 27
"""Numbers that are made orthogonal at once, so that a large model needs no second one of memory."""


def at_once(shape: tuple[int, ...]) -> int:
    """How many matrices of a shape share one product."""
    return max(1, STACKED // math.prod(shape))


def orthogonalise(
    update: Tensor, steps: int = 5, precision: torch.dtype = torch.bfloat16
) -> Tensor:
    """The nearest (semi-)orthogonal matrices, approximately: (N, R, C) -> the same in `precision`.

    Equal shapes are stacked, so that small matrices share one batched product.
    """
    a, b, c = COEFFICIENTS
    x = update.to(precision)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(Plain):
    """For the matrices between embedding and head; everything else belongs to AdamW.

    Args:
        parameters: two-dimensional weights.
        lr: step size; an update has a root-mean-square of about lr / sqrt(columns).
        momentum: Nesterov momentum.
        weight_decay: decoupled.
        precision: of the products. In bfloat16 a difference in the last digit of a gradient, as
            another number of processes makes it, is soon one in the fourth digit of the loss.
        world: processes that share the products among them.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        precision: torch.dtype = torch.bfloat16,
        dist: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.precision, self.dist = precision, dist
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault(tuple(weight.shape), []).append(weight)
            for shape, weights in shapes.items():
                most = at_once(shape)
                for first in range(0, len(weights), most):
                    self._update(shape, weights[first : first + most], group)

    def _update(self, shape: tuple[int, ...], weights: list[Tensor], group: Any) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self._momentum(weight) for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
        update = self._orthogonal(torch.stack([whole(each) for each in nesterov]))
        update = update.to(weights[0].dtype)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        scale = -group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
        parts = [like(each, weight) for each, weight in zip(update, weights, strict=True)]
        torch._foreach_add_(weights, parts, alpha=scale)

    def _orthogonal(self, updates: Tensor) -> Tensor:
        """As `orthogonalise`; of several processes each does some of the matrices."""
        mine = updates[self.dist.shard(len(updates))]
        return self.dist.all_gather(orthogonalise(mine, precision=self.precision), len(updates))

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        return momentum
