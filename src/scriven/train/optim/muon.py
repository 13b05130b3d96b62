"""Muon: momentum whose update matrices are orthogonalised (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon), by the Newton-Schulz iterations of Amsel et al. 2025,
"The Polar Express" (arXiv 2505.16932). AdamW trains what is not a matrix inside the blocks."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...distributed import SINGLE_PROCESS, DistributedContext, full_tensor, shard_like
from ...native.muon import muon_step
from ...settings import OptimSettings
from .adamw import build_adamw, scaled_to_width
from .adamw import finetune_lr as finetune_lr
from .base import ParamGroups, UncompiledOptimizer

STATE_PER_PARAM = 2
SHORT_RUN_LR_FACTOR = 2.0
ORTHOGONALISES_MATRICES = True

Coefficients = Sequence[tuple[float, float, float]]
"""(a, b, c) of each Newton-Schulz iteration: s <- a s + b s³ + c s⁵ for a singular value s."""

# Each polynomial is the nearest to one on what the iterations before leave of [0.01, 1] (minimax;
# Amsel et al. 2025, algorithm 1). After three of them values from 0.01 on lie within 0.73 to 1.27.
COEFFICIENTS: Coefficients = (
    (7.9894, -22.7478, 16.6786),
    (3.6434, -2.7269, 0.5371),
    (2.6713, -1.9853, 0.4535),
)

# Elements orthogonalised in one batch, so that the temporary copies of a large model's matrices do
# not take as much memory as the model.
MAX_BATCH_NUMEL = 1 << 27


def default_lr(d_model: int) -> float:
    """Peak learning rate of the AdamW part; `optim.muon_lr` is that of the matrices."""
    return scaled_to_width(3e-3, d_model)


def build(groups: ParamGroups, settings: OptimSettings) -> list[torch.optim.Optimizer]:
    """Muon of the matrices inside the blocks, AdamW without weight decay of the rest."""
    optimizers: list[torch.optim.Optimizer] = []
    if groups.matrices:
        muon = Muon(
            groups.matrices.values(),
            lr=settings.muon_lr,
            weight_decay=settings.weight_decay,
            precision=groups.precision,
            dist=groups.dist,
        )
        optimizers.append(muon)
    rest = [*groups.other_weights.values(), *groups.vectors.values()]
    if rest:
        optimizers.append(build_adamw([{"params": rest, "weight_decay": 0.0}], settings))
    return optimizers


def matrices_per_batch(shape: tuple[int, ...]) -> int:
    """How many matrices of a shape are orthogonalised in one batch."""
    return max(1, MAX_BATCH_NUMEL // math.prod(shape))


def newton_schulz(
    update: Tensor,
    coefficients: Coefficients = COEFFICIENTS,
    precision: torch.dtype = torch.bfloat16,
) -> Tensor:
    """Approximates the nearest (semi-)orthogonal matrices: (N, R, C) -> (N, R, C) in `precision`.

    Matrices of one shape are stacked, so that small ones share one batched matmul.
    """
    x = update.to(precision)
    # 1. work on the wide orientation, where the Gram matrix is small
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    # 2. scale so that every singular value is below one
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # 3. x <- a x + (b G + c G²) x with G = x xᵀ drives all singular values towards one
    for a, b, c in coefficients:
        gram = x @ x.mT  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(UncompiledOptimizer):
    """For matrices inside the blocks; AdamW should train embeddings, heads, gains and biases.

    Args:
        parameters: weights of rank 2, or stacks of matrices such as the experts of a layer,
            (..., R, C).
        lr: step size; an update has a root-mean-square of about lr / sqrt(columns).
        momentum: Nesterov momentum.
        weight_decay: decoupled.
        precision: dtype of the matmuls. In bfloat16 a difference in the last digit of a gradient,
            as another number of processes makes it, soon changes the fourth digit of the loss.
        dist: processes that divide the matrices among them.
        coefficients: of the Newton-Schulz iterations.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        precision: torch.dtype = torch.bfloat16,
        dist: DistributedContext = SINGLE_PROCESS,
        coefficients: Coefficients = COEFFICIENTS,
    ) -> None:
        self.precision, self.dist, self.coefficients = precision, dist, coefficients
        self.native = False
        """Whether compiled code may compute updates (`native/muon.py`)."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            # matrices of one shape share a batched matmul
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(tuple(weight.shape), []).append(weight)
            for shape, weights in by_shape.items():
                size = matrices_per_batch(shape)
                for first in range(0, len(weights), size):
                    self._update(shape, weights[first : first + size], group)

    def _update(self, shape: tuple[int, ...], weights: list[Tensor], group: Any) -> None:
        """Updates the N weights of one shape (R, C)."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self._momentum(weight) for weight in weights]
        # a tall matrix gets a larger step, so that its update has the same RMS per output
        step = -group["lr"] * max(1.0, shape[-2] / shape[-1]) ** 0.5
        decay = 1 - group["lr"] * group["weight_decay"]
        if self.native and muon_step(
            weights, momenta, momentum=group["momentum"], decay=decay, step=step,
            coefficients=self.coefficients, precision=self.precision,
        ):  # fmt: skip
            return
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
        # sharded gradients (FSDP) are gathered: a matrix is orthogonalised as a whole
        stacked = torch.stack([full_tensor(each) for each in nesterov])  # (N, R, C)
        update = self._orthogonalise(stacked.flatten(0, -3)).view(stacked.shape)
        update = update.to(weights[0].dtype)
        # decoupled, before the update as in torch.optim.AdamW
        if group["weight_decay"]:
            torch._foreach_mul_(weights, decay)
        parts = [shard_like(each, weight) for each, weight in zip(update, weights, strict=True)]
        torch._foreach_add_(weights, parts, alpha=step)

    def _orthogonalise(self, updates: Tensor) -> Tensor:
        """As `newton_schulz`; each process computes some of the matrices, (N, R, C)."""
        mine = updates[self.dist.shard(len(updates))]
        found = newton_schulz(mine, self.coefficients, self.precision)
        return self.dist.all_gather(found, len(updates))

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        return momentum
