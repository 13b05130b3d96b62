"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

from typing import Any

import torch

from ...settings import OptimSettings
from .base import ParamGroups, UncompiledOptimizer, uncompiled

STATE_PER_PARAM = 2
SHORT_RUN_LR_FACTOR = 2.0

# far below PyTorch's 1e-8, so that weights with tiny gradients get steps of full size too
EPS = 1e-10


def default_lr(d_model: int) -> float:
    """Peak learning rate: smaller for wider models, whose sums have more terms."""
    return scaled_to_width(2e-3, d_model)


def finetune_lr(d_model: int, lora: bool) -> float:
    """Peak learning rate of a fine-tuning; LoRA adapters start from zero and need a larger one."""
    return scaled_to_width(1e-2 if lora else 1e-3, d_model)


def scaled_to_width(lr: float, d_model: int) -> float:
    """A learning rate tuned at a width of 128, for wider models."""
    return lr * float(min(1.0, (128 / d_model) ** 0.5))


def build(groups: ParamGroups, settings: OptimSettings) -> "AdamW":
    """AdamW of all weights; vectors are not decayed."""
    return build_adamw(groups.with_weight_decay(settings.weight_decay), settings)


def build_adamw(param_groups: list[dict[str, Any]], settings: OptimSettings) -> "AdamW":
    """AdamW of the given torch parameter groups."""
    assert settings.lr is not None
    betas = (settings.beta1, settings.beta2)
    # fused: one kernel, instead of several operations for each weight
    return AdamW(param_groups, lr=settings.lr, betas=betas, eps=EPS, fused=True)


class AdamW(UncompiledOptimizer, torch.optim.AdamW):
    """PyTorch's AdamW without loading torch.compile."""

    step = torch.no_grad()(uncompiled(torch.optim.AdamW.step))
