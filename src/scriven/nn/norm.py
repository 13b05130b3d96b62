"""Layer normalisation and its root-mean-square form, as the formulas."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias (Ba et al. 2016); the bias is optional."""

    def __init__(self, width: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)"""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)"""
        weight = self.weight.to(x.dtype)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return cast(Tensor, _Scaled.apply(x, weight, self.eps))  # type: ignore[no-untyped-call]
        return F.rms_norm(x, weight.shape, weight, self.eps)


class _Scaled(torch.autograd.Function):
    """The formula with its derivative written out.

    On a CPU PyTorch builds rms_norm and its backward from a dozen passes over the data; this needs
    half of them, and takes a third off a training step of a small model (bench/results.jsonl).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        scale = (length.square() / x.size(-1) + eps).rsqrt().to(x.dtype)
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return cast(Tensor, normed * weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, scale, weight = ctx.saved_tensors
        product = grad * normed
        # d/dx of x * s(x): s * (g - normed * mean(g * normed)), with g = grad * weight
        mean = (product @ weight).unsqueeze(-1) / normed.size(-1)
        inner = torch.addcmul(grad * weight, normed, mean, value=-1).mul_(scale)
        return inner, product.flatten(0, -2).sum(0), None
