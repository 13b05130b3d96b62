"""Scaled dot-product attention: the only place that picks a kernel.

"Attention Is All You Need" (Vaswani et al. 2017), section 3.2.1. Knows no projections, positions
or caches; gets queries, keys, values and who may see whom.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import drop

# PyTorch's fused CPU kernel has a slow bf16 backward and refuses dropout; below this length plain
# batched products win a whole training step by up to 1.8x (bench/results.jsonl), beyond it their
# T x T memory hurts. In float32 the fused kernel is the faster one at every length.
PLAIN_TRAINING_LENGTH = 512


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T / sqrt(D) + bias) v over the keys each query may see.

    Args:
        q: (B, H, T, D). k, v: (B, K, S, D) where K divides H (grouped key/value heads).
        causal: query i sees keys 0..i; only for T == S.
        allowed: bool, broadcastable to (B, H, T, S); True where a query may see a key. A query
            that may see nothing gets the mean of the values, never NaN.
        bias: float, broadcastable to (B, H, T, S), added to the scores after scaling.
        dropout: share of attention weights dropped.

    Returns:
        (B, H, T, D)
    """
    slow = q.dtype == torch.bfloat16 or dropout > 0
    short = k.size(2) <= PLAIN_TRAINING_LENGTH
    if slow and short and q.device.type == "cpu" and torch.is_grad_enabled():
        return attend_plainly(q, k, v, causal=causal, allowed=allowed, bias=bias, dropout=dropout)
    grouped = q.size(1) != k.size(1)
    mask: Tensor | None = allowed
    if bias is not None or allowed is not None:
        causal_mask = _triangle(q) if causal else None
        mask = _additive(q, _both(allowed, causal_mask), bias)
        causal = False
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped
    )


def attend_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The same by batched matrix products: the formula itself, and fast for short contexts."""
    if q.size(1) != k.size(1):
        groups = q.size(1) // k.size(1)
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    mask = _additive(q, _both(allowed, _triangle(q) if causal else None), bias)
    scores = (q * q.size(-1) ** -0.5) @ k.mT
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    weights = scores.softmax(-1)
    return drop(weights, dropout) @ v


def _triangle(q: Tensor) -> Tensor:
    """(T, T), True on and below the diagonal."""
    size = q.size(2)
    return torch.ones(size, size, dtype=torch.bool, device=q.device).tril()


def _both(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return left if right is None else right
    return left & right


def _additive(q: Tensor, allowed: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """One float mask out of a boolean one and a bias."""
    if allowed is None:
        return bias
    # the lowest finite number, not -inf: a row without any allowed key must not become NaN
    lowest = torch.finfo(q.dtype).min / 2
    mask = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device)
    mask = mask.masked_fill(~allowed, lowest)
    return mask if bias is None else mask + bias
