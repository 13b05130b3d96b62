"""Scaled dot-product attention: the only place that picks a kernel.

"Attention Is All You Need" (Vaswani et al. 2017), section 3.2.1. Knows no projections, positions
or caches; gets queries, keys, values and who may see whom.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .causal import attend_causally
from .dropout import drop
from .visibility import hidden

# PyTorch's fused CPU kernel has a slow bf16 backward and refuses dropout; below this length plain
# batched products win a whole training step by up to 1.8x (bench/results.jsonl), beyond it their
# T x T memory hurts. In float32 the fused kernel is the faster one at every length.
PLAIN_TRAINING_LENGTH = 512

# The same where what is yet to come is left out: as fast as the formula up to the first length,
# 1.4 times as fast at 512 (LOG.md), and half its memory.
CAUSAL_TRAINING_LENGTHS = range(257, 1025)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v over the keys each query may see.

    Args:
        q: (B, H, T, D). k, v: (B, K, S, D) where K divides H (grouped key/value heads).
        causal: query i sees keys 0..i; only for T == S.
        mask: of q's type, broadcastable to (B, H, T, S), added to the scores after scaling: a bias,
            and what hides keys (`hidden`). A query that may see nothing gets the mean of the
            values, never NaN.
        dropout: share of attention weights dropped.

    Returns:
        (B, H, T, D)
    """
    slow = q.dtype == torch.bfloat16 or dropout > 0
    length = k.size(2)
    if slow and q.device.type == "cpu" and torch.is_grad_enabled():
        simple = causal and mask is None and not dropout and not torch.compiler.is_compiling()
        if simple and length in CAUSAL_TRAINING_LENGTHS:
            return attend_causally(q, *_spread(q, k, v))
        if length <= PLAIN_TRAINING_LENGTH:
            return attend_plainly(q, k, v, causal=causal, mask=mask, dropout=dropout)
    grouped = q.size(1) != k.size(1)
    if mask is not None:
        mask, causal = _whole(q, mask, causal), False
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped
    )


def attend_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The same by batched matrix products: the formula itself, and fast for short contexts."""
    k, v = _spread(q, k, v)
    scores = (q * q.size(-1) ** -0.5) @ k.mT
    mask = _whole(q, mask, causal)
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1)
    return drop(weights, dropout) @ v


def _spread(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Grouped keys and values, one for each query head."""
    groups = q.size(1) // k.size(1)
    if groups == 1:
        return k, v
    return k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)


def _whole(q: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """One mask out of another and what is yet to come."""
    if not causal:
        return mask
    size = q.size(2)
    seen = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    triangle = hidden(seen, q.dtype)
    return triangle if mask is None else mask + triangle


@cache
def keys_dtype() -> torch.dtype:
    """In which one query after the other meets keys on a processor.

    Without a matrix unit the fused kernel takes three times as long in bfloat16 (LOG.md).
    """
    tiles = torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.bfloat16 if tiles else torch.float32
