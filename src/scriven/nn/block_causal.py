"""Causal attention by batched matmuls that skip masked blocks.

A block of queries meets the keys up to its own end, so that nearly half of the multiplications, and
of the passes over attention weights, are skipped. The backward pass is written out: autograd's
would fill whole keys and values with zeros for every block.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .embeddings import additive_mask

BLOCK = 128
"""Queries per block; smaller ones skip more and have more operations."""


def block_causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D)) v where query i attends to keys 0..i.

    Args:
        q, k, v: (B, H, T, D) each.
        scale: factor of the scores instead of 1 / sqrt(D).

    Returns:
        (B, H, T, D)
    """
    scaled = q * (q.size(-1) ** -0.5 if scale is None else scale)
    rows = (each.flatten(0, 1) for each in (scaled, k, v))  # (B H, T, D)
    return cast(Tensor, _BlockCausal.apply(*rows)).view(q.shape)  # type: ignore[no-untyped-call]


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length)


class _BlockCausal(torch.autograd.Function):
    """(N, T, D) each; queries are scaled already."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        triangle = additive_mask(torch.ones(BLOCK, BLOCK, dtype=torch.bool).tril(), q.dtype)
        outputs, saved = [], []
        for start, end in _blocks(q.size(1)):
            scores = q[:, start:end] @ k[:, :end].mT  # (N, end - start, end)
            # only the last block of keys is partly masked
            scores[:, :, start:] += triangle[: end - start, : end - start]
            weights = scores.softmax(-1)
            outputs.append(weights @ v[:, :end])
            saved.append(weights)
        ctx.save_for_backward(q, k, v, *saved)
        return torch.cat(outputs, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *saved = ctx.saved_tensors
        sum_dtype = torch.promote_types(q.dtype, torch.float32)  # of the sums over blocks
        d_q = []
        d_k, d_v = torch.zeros_like(k, dtype=sum_dtype), torch.zeros_like(v, dtype=sum_dtype)
        for (start, end), weights in zip(_blocks(q.size(1)), saved, strict=True):
            d_out = grad[:, start:end]
            # d_v = weights^T d_out; d_weights = d_out v^T; d_scores by the softmax's derivative
            d_v[:, :end] += weights.mT @ d_out
            d_weights = d_out @ v[:, :end].mT
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_q.append(d_scores @ k[:, :end])
            d_k[:, :end] += d_scores.mT @ q[:, start:end]
        return torch.cat(d_q, 1), d_k.to(k.dtype), d_v.to(v.dtype)
