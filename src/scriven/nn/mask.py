"""Attention masks, computed from positions: causal, sliding window, padding."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionMask:
    """Which keys a query of one attention layer may attend to."""

    causal: bool = True
    window: int | None = None
    """Sliding window: only the last `window` positions, the query's own included."""

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Positions (T,) or (B, T) and (S,) or (B, S) -> bool (T, S) or (B, 1, T, S)."""
        q, k = query_positions.unsqueeze(-1), key_positions.unsqueeze(-2)  # (.., T, 1), (.., 1, S)
        allowed = k >= 0  # padding has negative positions
        if self.causal:
            allowed = allowed & (k <= q)
        if self.window is not None:
            allowed = allowed & (q - k < self.window)
        if allowed.dim() == 2:
            return allowed.expand(query_positions.size(-1), key_positions.size(-1))
        return allowed.unsqueeze(1)  # (B, 1, T, S): one mask for all heads


@dataclass
class ForwardContext:
    """Positions of the queries in one forward pass, and what its layers can share."""

    positions: Tensor
    """(T,) or (B, T)."""
    unpadded: bool
    """Whether rows have no padding and positions follow each other, so that kernels may build the
    causal mask themselves."""
    memo: dict[Any, Any] = field(default_factory=dict)
    """Masks and rotations that one layer computed from the positions, for the other layers."""

    def additive_mask(
        self, mask: AttentionMask, key_positions: Tensor, dtype: torch.dtype
    ) -> Tensor | None:
        """The mask for keys at `key_positions`, to be added to scores; None where all are allowed.

        All layers of a forward pass have the same positions, so each mask is computed once.
        """
        # 1. single-token decoding and full attention without padding need no mask
        one_query = self.positions.size(-1) == 1
        if self.unpadded and mask.window is None and (one_query or not mask.causal):
            return None
        if torch.compiler.is_exporting():  # lengths are symbols then, and cannot be dictionary keys
            return additive_mask(mask.allowed(self.positions, key_positions), dtype)
        # 2. once for all layers with the same rule and as many keys
        key = (mask, key_positions.size(-1), dtype)
        if key not in self.memo:
            self.memo[key] = additive_mask(mask.allowed(self.positions, key_positions), dtype)
        shared: Tensor = self.memo[key]
        return shared


def additive_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """bool -> `dtype`: 0 where allowed, a very negative number elsewhere."""
    # the lowest finite number, not -inf: a row without any allowed key must not become NaN
    lowest = torch.finfo(dtype).min / 2
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, lowest
    )


def forward_context(tokens: Tensor, positions: Tensor | None, start: int) -> ForwardContext:
    """The context of tokens (B, T) that follow `start` cached ones, unless positions are given."""
    if positions is not None:
        return ForwardContext(positions, unpadded=False)
    positions = torch.arange(start, start + tokens.size(1), device=tokens.device)  # (T,)
    return ForwardContext(positions, unpadded=True)
