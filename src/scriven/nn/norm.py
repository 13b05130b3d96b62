"""Layer normalisation and its root-mean-square form, as the formulas."""

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias (Ba et al. 2016); the bias is optional."""

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)"""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019)."""

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)"""
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, the mean over the last dimension.

    Args:
        x: (..., C).
        weight: (C,), or (H, C) where each of H heads has its own.
    """
    # GPUs and the compiler fuse it themselves
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        weight = weight.to(x.dtype)
        per_head = weight.dim() > 1
        normed = F.rms_norm(x, x.shape[-1:], None if per_head else weight, eps)
        return normed * weight if per_head else normed
    # on a CPU: our own backward when training, in place otherwise
    if torch.is_grad_enabled():
        return cast(Tensor, _RMSNorm.apply(x, weight.to(x.dtype), eps))  # type: ignore[no-untyped-call]
    return (x * _inverse_rms(x, eps)).mul_(weight).to(x.dtype)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps), (..., 1), in float32 or better."""
    wide = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)  # sqrt(sum(x^2))
    return torch.addcmul(_scalar(eps, wide), length, length, value=1 / x.size(-1)).rsqrt_()


@cache
def _scalar(value: float, dtype: torch.dtype) -> Tensor:
    """A number as a tensor, made once: PyTorch would make a new one at every call."""
    return torch.tensor(value, dtype=dtype)


class _RMSNorm(torch.autograd.Function):
    """The formula with its derivative written out.

    On a CPU PyTorch builds rms_norm and its backward from a dozen passes over the data; this needs
    half of them, and takes a third off a training step of a small model (bench/results.jsonl).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = _inverse_rms(x, eps).to(x.dtype)
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, scale, weight = ctx.saved_tensors
        product = grad * normed
        # no gradient of eps; sums over all rows for the weight
        # d/dx of x * s(x): s * (g - normed * mean(g * normed)), with g = grad * weight
        if weight.dim() == 1:
            mean = (product @ weight).unsqueeze(-1) / normed.size(-1)
        else:
            mean = (product * weight).mean(-1, keepdim=True)
        d_x = torch.addcmul(grad * weight, normed, mean, value=-1).mul_(scale)
        return d_x, product.flatten(0, -1 - weight.dim()).sum(0), None
