"""Multi-head attention: the projections around `attend`.

Self-attention when no source is given, cross-attention when one is; a memory decides which keys
come from earlier calls.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attend import attend, keys_dtype
from .dropout import drop
from .lora import Lora
from .norm import RMSNorm, rms_norm
from .packed import Packed
from .positions import Position
from .state import Memory
from .visibility import Frame, Visibility, hidden


class Attention(nn.Module):
    """softmax(Q K^T) V with H query heads and K key/value heads (Ainslie et al. 2023: grouped).

    Query, key and value weights are one matrix `qkv`, in this order, so that self-attention is one
    product; cross-attention uses its slices.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        visibility: Visibility,
        position: Position | None = None,
        query_norm: RMSNorm | None = None,
        key_norm: RMSNorm | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads or heads
        self.head_dim = head_dim or d_model // heads
        self.query_width = self.heads * self.head_dim
        key_width = self.kv_heads * self.head_dim
        self.qkv: nn.Linear | Packed = nn.Linear(d_model, self.query_width + 2 * key_width, bias)
        self.out = nn.Linear(self.query_width, d_model, bias)
        self.query_norm, self.key_norm = query_norm, key_norm
        self.position = position or Position()
        self.visibility = visibility
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.fixed: Tensor | None = None
        self.kept: torch.dtype | None = None
        """What keys and values are turned into; None: they stay as the product makes them."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its keys and values."""
        return self.kept or self.qkv.weight.dtype

    def forward(
        self,
        x: Tensor,
        frame: Frame,
        memory: Memory | None = None,
        source: Tensor | None = None,
        source_at: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, W), and for cross-attention source (B, S, W) at source_at (S,) or (B, S)."""
        if source is None and memory is None:
            q, k, v = self._project_all(x, frame)
            key_at = frame.at
        elif source is None and memory is not None and memory.only_new:
            q, *new = self._project_all(x, frame)
            k, v, key_at = memory.extend(x, frame.at, lambda *_: (new[0], new[1]))
        else:
            q = self._shape_queries(self._linear(x, 0, self.query_width), frame.at)
            own = source is None
            inputs = x if source is None else source
            at = frame.at if own else source_at
            assert at is not None, "a source needs its positions"
            if memory is None:
                k, v = self._project_source(inputs, at)
                key_at = at
            else:
                k, v, key_at = memory.extend(inputs, at, self._project_source)
        q, bias = self.position.score(q, frame.at, key_at)
        if memory is None and source is None and frame.plain and self.visibility.window is None:
            causal, mask = self.visibility.causal, bias
        else:
            causal = False
            mask = (
                frame.mask(self.visibility, key_at, q.dtype)
                if source is None
                else hidden(self.visibility.allowed(frame.at, key_at), q.dtype)
            )
            if mask is None:
                mask = bias
            elif bias is not None:
                mask = mask + bias
        dropout = self.attention_dropout if self.training else 0.0
        y = attend(q, k, v, causal=causal, mask=mask, dropout=dropout)
        y = self.out(y.transpose(1, 2).flatten(2))
        return drop(y, self.dropout, self.training)

    def _project_all(self, x: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values; norms and rotations of the first two are one operation."""
        batch, length, _ = x.shape
        turned = [self.heads, self.kv_heads]
        heads = self._kept(self.qkv(x)).view(batch, length, -1, self.head_dim)
        qk, v = torch.split(heads, [sum(turned), self.kv_heads], 2)
        if self.query_norm is not None:
            qk = rms_norm(qk, self._norm_weights(), self.query_norm.eps)
        qk = self.position.rotate(qk.transpose(1, 2), frame.at, frame.known)
        q, k = torch.split(qk, turned, 1)
        return q, k, v.transpose(1, 2)

    def _norm_weights(self) -> Tensor:
        """(H + K, D): what the norms of queries and keys multiply each head by."""
        assert self.query_norm is not None and self.key_norm is not None
        if self.fixed is not None:
            return self.fixed
        queries = self.query_norm.weight.expand(self.heads, -1)
        return torch.cat((queries, self.key_norm.weight.expand(self.kv_heads, -1)))

    def fix(self) -> None:
        """Prepares for weights that never change again, which `qkv` may have laid out."""
        if isinstance(self.qkv, Packed):
            self.kept = keys_dtype()
        if self.query_norm is not None:
            self.fixed = self._norm_weights().detach()

    def _project_source(self, source: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        return self._shape_keys(self._linear(source, self.query_width, None), at)

    def _linear(self, x: Tensor, start: int, end: int | None) -> Tensor:
        """A slice of the joint projection."""
        if isinstance(self.qkv, Packed):
            return self._kept(self.qkv.rows(x, start, end))
        bias = None if self.qkv.bias is None else self.qkv.bias[start:end]
        y = F.linear(x, self.qkv.weight[start:end], bias)
        return self.qkv.lora(x, y, start, end) if isinstance(self.qkv, Lora) else y

    def _kept(self, y: Tensor) -> Tensor:
        return y if self.kept is None else y.to(self.kept)

    def _shape_queries(self, q: Tensor, at: Tensor) -> Tensor:
        q = q.view(*q.shape[:-1], self.heads, self.head_dim)
        if self.query_norm is not None:
            q = self.query_norm(q)
        return self.position.rotate(q.transpose(1, 2), at)

    def _shape_keys(self, kv: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        k, v = kv.view(*kv.shape[:-1], 2, self.kv_heads, self.head_dim).unbind(-3)
        if self.key_norm is not None:
            k = self.key_norm(k)
        return self.position.rotate(k.transpose(1, 2), at), v.transpose(1, 2)
