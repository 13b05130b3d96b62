"""Multi-head attention, and the kernels that compute it.

"Attention Is All You Need" (Vaswani et al. 2017), section 3.2. Self-attention when no source is
given, cross-attention when one is; a cache decides which keys come from earlier calls.
"""

from collections.abc import Callable
from functools import cache as cached

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .block_causal import block_causal_attention
from .cache import AttentionCache
from .dropout import dropout as apply_dropout
from .embeddings import AttentionMask, ForwardContext, PositionEncoding, additive_mask
from .lora import LoraLinear
from .norm import RMSNorm
from .quantized import PackedLinear

CausalKernel = Callable[[Tensor, Tensor, Tensor, float | None], Tensor]

# PyTorch's fused CPU kernel has a slow bf16 backward and refuses dropout; below this length plain
# batched matmuls win a whole training step by up to 1.8x (bench/results.jsonl), beyond it their
# T x T memory hurts. In float32 the fused kernel is the faster one at every length.
NAIVE_MAX_LENGTH = 512

# The same for causal attention that skips masked blocks: as fast as the formula up to the first
# length, then up to 1.4x faster and in half of its memory.
BLOCK_CAUSAL_LENGTHS = range(257, 1025)


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V with H query heads and K key/value heads (grouped-query attention,
    Ainslie et al. 2023).

    Query, key and value weights are one matrix `qkv`, in this order, so that self-attention is one
    matmul; cross-attention uses its slices.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        mask: AttentionMask,
        position: PositionEncoding | None = None,
        query_norm: RMSNorm | None = None,
        key_norm: RMSNorm | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        """Self-attention, or cross-attention.

        Args:
            bias: of queries, keys and values; out_bias: of the output, as `bias` by default.
            query_norm, key_norm: over each head (D), or over all heads together (H D and K D).
            scale: factor of the scores; None: 1 / sqrt(D).
            softcap: largest absolute score, reached smoothly: softcap * tanh(score / softcap)
                (Gemma 2, 2024, section 2).
        """
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads or heads
        self.head_dim = head_dim or d_model // heads
        self.q_size = self.heads * self.head_dim
        kv_size = self.kv_heads * self.head_dim
        # (H D + 2 K D, C): the rows of all queries, then all keys, then all values
        self.qkv: nn.Linear | PackedLinear = nn.Linear(d_model, self.q_size + 2 * kv_size, bias)
        self.out = nn.Linear(self.q_size, d_model, bias if out_bias is None else out_bias)
        self.query_norm, self.key_norm = query_norm, key_norm
        self.norms_each_head = query_norm is not None and query_norm.weight.numel() == self.head_dim
        """Whether queries and keys have norms over each head, not over all heads together."""
        self.position = position or PositionEncoding()
        self.mask, self.scale, self.softcap = mask, scale, softcap
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.frozen_norm_factors: Tensor | None = None
        self.kv_dtype: torch.dtype | None = None
        """Data type that queries, keys and values are cast to; None: that of the projection."""
        self.causal_kernel: CausalKernel | None = None
        """Computes causal attention while set, in the place of PyTorch's kernels."""

    def forward(
        self,
        x: Tensor,
        context: ForwardContext,
        cache: AttentionCache | None = None,
        source: Tensor | None = None,
        source_positions: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); for cross-attention with a source (B, S, C) at its positions."""
        # 1. queries (B, H, T, D), keys and values (B, K, S, D): those of earlier calls included
        positions = context.positions if source is None else source_positions
        assert positions is not None, "a source needs its positions"
        if source is None and (cache is None or cache.projects_only_new):
            # decoder self-attention, also with a KV cache: one matmul, S = T before the cache
            q, k, v = self._project_qkv(x, context)
            key_positions = positions
            if cache is not None:
                new = (k, v)
                k, v, key_positions = cache.update(x, positions, lambda *_: new)
        else:
            # cross-attention, or a segment memory: keys and values come from other inputs
            q = self._split_queries(self._linear(x, 0, self.q_size), context.positions)
            inputs = x if source is None else source
            if cache is None:
                k, v = self._project_kv(inputs, positions)
                key_positions = positions
            else:
                k, v, key_positions = cache.update(inputs, positions, self._project_kv)
        # 2. the mask (T, S) or (B, 1, T, S), with the bias (B, H, T, S) of relative positions
        bias, causal, mask = None, False, None
        if self.position.adds_bias:
            q, bias = self.position.bias(q, context.positions, key_positions)
        if source is not None:
            # not shared: the source has other positions than the keys of self-attention
            mask = additive_mask(self.mask.allowed(context.positions, key_positions), q.dtype)
        elif cache is None and context.unpadded and self.mask.window is None and bias is None:
            causal = self.mask.causal  # left to the kernel
        else:
            mask = context.additive_mask(self.mask, key_positions, q.dtype)
        if bias is not None:
            mask = bias if mask is None else mask + bias
        # 3. softmax(Q K^T / sqrt(D) + mask) V, the heads side by side again, and out
        p = self.attention_dropout if self.training else 0.0
        if self.causal_kernel is not None and causal and mask is None:
            y = self.causal_kernel(q, k, v, self.scale)
        else:
            y = scaled_dot_product_attention(
                q, k, v, causal=causal, mask=mask, dropout=p, scale=self.scale, softcap=self.softcap
            )
        y = self.out(y.transpose(1, 2).flatten(2))  # (B, H, T, D) -> (B, T, H D) -> (B, T, C)
        return apply_dropout(y, self.dropout) if self.training and self.dropout else y

    def _project_qkv(self, x: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values; norms and rotations of the first two are one operation."""
        batch, length, _ = x.shape
        qk_heads = [self.heads, self.kv_heads]
        qkv = self.qkv(x)  # (B, T, (H + 2 K) D)
        if self.kv_dtype is not None:
            qkv = qkv.to(self.kv_dtype)
        heads = qkv.view(batch, length, -1, self.head_dim)  # (B, T, H + 2 K, D)
        qk, v = torch.split(heads, [sum(qk_heads), self.kv_heads], 2)
        # values are neither normed nor rotated; beside frozen weights, where nothing else keeps the
        # whole projection, a view of it should not either
        if isinstance(self.qkv, LoraLinear):
            v = v.contiguous()
        if self.query_norm is not None:
            qk = self._norm_heads(qk)
        qk = self.position.rotate(qk.transpose(1, 2), context.positions, context.memo)
        q, k = torch.split(qk, qk_heads, 1)  # (B, H, T, D), (B, K, T, D)
        return q, k, v.transpose(1, 2)

    def _norm_heads(self, qk: Tensor) -> Tensor:
        """(B, T, H + K, D), normed: in one operation where each head is normed by itself."""
        assert self.query_norm is not None and self.key_norm is not None
        if self.norms_each_head:
            normed: Tensor = self.query_norm(qk, self._norm_factors())
            return normed
        q, k = torch.split(qk.flatten(2), [self.q_size, self.kv_heads * self.head_dim], -1)
        return torch.cat((self.query_norm(q), self.key_norm(k)), -1).view_as(qk)

    def _norm_factors(self) -> Tensor:
        """(H + K, D): what the norms of queries and keys multiply each head by."""
        assert self.query_norm is not None and self.key_norm is not None
        if self.frozen_norm_factors is not None:
            return self.frozen_norm_factors
        queries = self.query_norm.factor.expand(self.heads, -1)
        return torch.cat((queries, self.key_norm.factor.expand(self.kv_heads, -1)))

    def prepare_for_inference(self) -> None:
        """Precomputes what depends only on weights, which must not change any more."""
        if isinstance(self.qkv, PackedLinear):
            self.kv_dtype = decode_kv_dtype()
        if self.norms_each_head:
            self.frozen_norm_factors = self._norm_factors().detach()

    def _project_kv(self, source: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, C) -> keys and values (B, K, S, D)."""
        kv = self._linear(source, self.q_size, None)  # (B, S, 2 K D)
        k, v = kv.view(*kv.shape[:-1], 2, self.kv_heads, self.head_dim).unbind(-3)  # (B, S, K, D)
        if self.key_norm is not None:
            k = self.key_norm(k)
        return self.position.rotate(k.transpose(1, 2), positions), v.transpose(1, 2)

    def _split_queries(self, q: Tensor, positions: Tensor) -> Tensor:
        """(B, T, H D) -> (B, H, T, D), normed and rotated."""
        q = q.view(*q.shape[:-1], self.heads, self.head_dim)
        if self.query_norm is not None:
            q = self.query_norm(q)
        return self.position.rotate(q.transpose(1, 2), positions)

    def _linear(self, x: Tensor, start: int, end: int | None) -> Tensor:
        """Output rows start .. end of the joint projection: (B, T, C) -> (B, T, end - start)."""
        if isinstance(self.qkv, PackedLinear):
            y = self.qkv.rows(x, start, end)
            return y if self.kv_dtype is None else y.to(self.kv_dtype)
        bias = None if self.qkv.bias is None else self.qkv.bias[start:end]
        y = F.linear(x, self.qkv.weight[start:end], bias)
        return self.qkv.lora(x, y, start, end) if isinstance(self.qkv, LoraLinear) else y


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v, section 3.2.1: the only place that picks a kernel.

    Args:
        q: (B, H, T, D). k, v: (B, K, S, D) where K divides H (grouped key/value heads).
        causal: query i sees keys 0..i; only for T == S and without a mask.
        mask: of q's type, broadcastable to (B, H, T, S), added to the scores after scaling: a bias,
            and what masks keys (`additive_mask`). A query without any allowed key gets the mean of
            the values, never NaN.
        dropout: fraction of attention weights dropped.
        scale: factor of the scores instead of 1 / sqrt(D).
        softcap: largest absolute score, before the mask; no fused kernel has it.

    Returns:
        (B, H, T, D)
    """
    # where the fused CPU kernel is slow: training in bfloat16, or with dropout
    slow = q.dtype == torch.bfloat16 or dropout > 0
    length, grouped = k.size(2), q.size(1) != k.size(1)
    if softcap is not None:
        return naive_attention(
            q, k, v, causal=causal, mask=mask, dropout=dropout, scale=scale, softcap=softcap
        )
    if slow and q.device.type == "cpu" and torch.is_grad_enabled():
        simple = causal and mask is None and not dropout and not torch.compiler.is_compiling()
        if simple and length in BLOCK_CAUSAL_LENGTHS:
            k, v = _repeat_kv(q, k, v) if grouped else (k, v)
            return block_causal_attention(q, k, v, scale)
        if length <= NAIVE_MAX_LENGTH:
            return naive_attention(q, k, v, causal=causal, mask=mask, dropout=dropout, scale=scale)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale,
        enable_gqa=grouped,
    )  # fmt: skip


def naive_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The same by batched matmuls: the formula itself, and fast for short contexts."""
    k, v = _repeat_kv(q, k, v) if q.size(1) != k.size(1) else (k, v)
    # scaled before the matmul: T D multiplications instead of T S
    scores = (q * (q.size(-1) ** -0.5 if scale is None else scale)) @ k.mT  # (B, H, T, S)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    if causal:
        assert mask is None, "the causal mask is a part of a mask that is given"
        seen = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).tril()  # (T, T)
        mask = additive_mask(seen, q.dtype)
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1)  # (B, H, T, S), each row sums to 1
    if dropout:
        weights = apply_dropout(weights, dropout)
    y: Tensor = weights @ v  # (B, H, T, D)
    return y


def _repeat_kv(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Grouped keys and values (B, K, S, D) -> one for each query head, (B, H, S, D)."""
    groups = q.size(1) // k.size(1)
    return k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)


@cached
def decode_kv_dtype() -> torch.dtype:
    """Data type of keys and values for single-token decoding on a CPU.

    On a CPU without AMX the fused kernel takes three times as long in bfloat16 (LOG.md).
    """
    # torch 2.9 cannot tell
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, bool])()
    return torch.bfloat16 if capabilities.get("amx_bf16") else torch.float32
