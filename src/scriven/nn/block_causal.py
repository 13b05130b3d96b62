"""Causal attention by batched products that leave out what is yet to come.

A block of queries meets the keys up to its own end, so that nearly half of the products, and of the
passes over attention weights, are not made at all. The derivative is written out: PyTorch's would
fill whole keys and values with zeros for every block.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .mask import additive_mask

BLOCK = 128
"""Queries; smaller ones leave out more and have more operations."""


def block_causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v where query i sees keys 0..i.

    Args:
        q, k, v: (B, H, T, D) each.

    Returns:
        (B, H, T, D)
    """
    rows = (each.flatten(0, 1) for each in (q * q.size(-1) ** -0.5, k, v))
    return cast(Tensor, _Blocks.apply(*rows)).view(q.shape)  # type: ignore[no-untyped-call]


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length)


class _Blocks(torch.autograd.Function):
    """(N, T, D) each; queries are scaled."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        triangle = additive_mask(torch.ones(BLOCK, BLOCK, dtype=torch.bool).tril(), q.dtype)
        outputs, kept = [], []
        for start, end in _blocks(q.size(1)):
            scores = q[:, start:end] @ k[:, :end].mT
            scores[:, :, start:] += triangle[: end - start, : end - start]
            weights = scores.softmax(-1)
            outputs.append(weights @ v[:, :end])
            kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        return torch.cat(outputs, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *kept = ctx.saved_tensors
        wide = torch.promote_types(q.dtype, torch.float32)  # sums over blocks
        d_q, d_k, d_v = [], torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        for (start, end), weights in zip(_blocks(q.size(1)), kept, strict=True):
            below = grad[:, start:end]
            d_v[:, :end] += weights.mT @ below
            d_weights = below @ v[:, :end].mT
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_q.append(d_scores @ k[:, :end])
            d_k[:, :end] += d_scores.mT @ q[:, start:end]
        return torch.cat(d_q, 1), d_k.to(k.dtype), d_v.to(v.dtype)
