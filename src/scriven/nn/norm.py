"""Layer normalisation and its root-mean-square form, as the formulas."""

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias (Ba et al. 2016)."""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)"""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (offset + weight), the mean over the last dimension (Zhang and
    Sennrich 2019).

    With an offset of 1 the stored weight is the difference from 1, so that weight decay pulls the
    factor towards 1 (Gemma).
    """

    def __init__(self, d_model: int, eps: float = 1e-6, offset: float = 0.0) -> None:
        super().__init__()
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.full((d_model,), 1 - offset))

    @property
    def factor(self) -> Tensor:
        """(C,), what the normalised input is multiplied by."""
        return self.weight + self.offset if self.offset else self.weight

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """(..., C) -> (..., C); `factor`, (H, C), is another one for each of H heads."""
        weight = self.weight + self.offset if self.offset else self.weight
        weight = weight if factor is None else factor
        # GPUs and the compiler fuse it themselves
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            weight = weight.to(x.dtype)
            per_head = weight.dim() > 1
            normed = F.rms_norm(x, x.shape[-1:], None if per_head else weight, self.eps)
            return normed * weight if per_head else normed
        # on a CPU: 1 / sqrt(mean(x^2) + eps), (..., 1), in float32 or better
        wide = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        length = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True, dtype=wide)
        eps = _constant(self.eps, dtype=wide)
        scale = torch.addcmul(eps, length, length, value=1 / x.size(-1)).rsqrt_()
        # our own backward when training, in place otherwise
        if torch.is_grad_enabled():
            scale, weight = scale.to(x.dtype), weight.to(x.dtype)
            return cast(Tensor, _RMSNorm.apply(x, scale, weight))  # type: ignore[no-untyped-call]
        return (x * scale).mul_(weight).to(x.dtype)


_constant = cache(torch.tensor)
"""A number as a tensor, built once: PyTorch would build a new one at every call."""


class _RMSNorm(torch.autograd.Function):
    """x * scale * weight with its derivative written out, where the scale depends on x.

    On a CPU PyTorch builds rms_norm and its backward from a dozen passes over the data; this needs
    half of them, and takes a third off a training step of a small model (bench/results.jsonl).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        normed = x * scale
        # beside a frozen weight the output is kept, which the next layer keeps as well
        ctx.keeps_output = not (
            ctx.needs_input_grad[2] or weight.dim() > 1 or (weight.abs() < 1e-9).any()
        )
        output = normed.mul_(weight) if ctx.keeps_output else normed * weight
        ctx.save_for_backward(output if ctx.keeps_output else normed, scale, weight)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None]:
        normed, scale, weight = ctx.saved_tensors
        if ctx.keeps_output:  # the derivative below, with normed = output / weight
            mean = (grad * normed).mean(-1, keepdim=True)
            return (grad * weight).addcmul_(normed / weight, mean, value=-1).mul_(scale), None, None
        if not ctx.needs_input_grad[2]:  # a frozen weight of one dimension: fewer passes
            grad = grad * weight
            mean = (grad * normed).mean(-1, keepdim=True)
            return grad.addcmul_(normed, mean, value=-1).mul_(scale), None, None
        product = grad * normed
        # d/dx of x * s(x): s * (g - normed * mean(g * normed)), with g = grad * weight; the
        # gradient of the weight is a sum over all rows
        if weight.dim() == 1:
            mean = (product @ weight).unsqueeze(-1) / normed.size(-1)
        else:
            mean = (product * weight).mean(-1, keepdim=True)
        d_x = torch.addcmul(grad * weight, normed, mean, value=-1).mul_(scale)
        return d_x, None, product.flatten(0, -1 - weight.dim()).sum(0)
