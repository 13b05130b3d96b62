"""Stochastic gradient descent with momentum; `optim.beta1` is the momentum."""

import torch

from ...settings import OptimSettings
from .base import ParamGroups, UncompiledOptimizer, uncompiled

STATE_PER_PARAM = 1


def default_lr(d_model: int) -> float:
    """Peak learning rate, the same at every width."""
    return 0.1


def finetune_lr(d_model: int, lora: bool) -> float:
    """Peak learning rate of a fine-tuning."""
    return 0.02


def build(groups: ParamGroups, settings: OptimSettings) -> "SGD":
    """SGD of all weights, all of them decayed."""
    assert settings.lr is not None
    return SGD(
        groups.all,
        lr=settings.lr,
        momentum=settings.beta1,
        weight_decay=settings.weight_decay,
    )


class SGD(UncompiledOptimizer, torch.optim.SGD):
    """PyTorch's SGD without loading torch.compile."""

    step = torch.no_grad()(uncompiled(torch.optim.SGD.step))
