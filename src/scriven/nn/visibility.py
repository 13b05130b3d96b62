"""Who may see whom, from positions alone: causal, a local window, padding."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visibility:
    """The rule of one attention layer."""

    causal: bool = True
    window: int | None = None
    """Only the last `window` positions, the query's own included (banded attention)."""

    def allowed(self, query_at: Tensor, key_at: Tensor) -> Tensor:
        """Positions (T,) or (B, T) and (S,) or (B, S) -> bool (T, S) or (B, 1, T, S)."""
        q, k = query_at.unsqueeze(-1), key_at.unsqueeze(-2)
        seen = k >= 0
        if self.causal:
            seen = seen & (k <= q)
        if self.window is not None:
            seen = seen & (q - k < self.window)
        if seen.dim() == 2:
            return seen.expand(query_at.size(-1), key_at.size(-1))
        return seen.unsqueeze(1)


@dataclass
class Frame:
    """Where the queries of one forward pass stand, shared by all its layers."""

    at: Tensor
    """(T,) or (B, T) positions of the queries."""
    plain: bool
    """All rows without padding, in order: the fast paths of `allowed` may be taken."""
    known: dict[Any, Any] = field(default_factory=dict)
    """What one layer computed of these positions, for the others: masks, rotations."""

    def mask(self, rule: Visibility, key_at: Tensor, dtype: torch.dtype) -> Tensor | None:
        """The mask for keys at `key_at`, as it is added to scores; None where there is nothing to
        hide.

        All layers of one pass see the same positions, so a mask is computed once per rule.
        """
        one_query = self.at.size(-1) == 1
        if self.plain and rule.window is None and (one_query or not rule.causal):
            return None
        if torch.compiler.is_exporting():  # lengths are symbols there, and no keys
            return hidden(rule.allowed(self.at, key_at), dtype)
        key = (rule, key_at.size(-1), dtype)
        if key not in self.known:
            self.known[key] = hidden(rule.allowed(self.at, key_at), dtype)
        mask: Tensor = self.known[key]
        return mask


def hidden(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0 where a query may see a key, and next to nothing elsewhere."""
    # the lowest finite number, not -inf: a row without any allowed key must not become NaN
    lowest = torch.finfo(dtype).min / 2
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, lowest
    )


def frame(tokens: Tensor, at: Tensor | None, start: int) -> Frame:
    """The frame of tokens (B, T) that follow `start` earlier ones, unless `at` says otherwise."""
    if at is not None:
        return Frame(at, plain=False)
    return Frame(torch.arange(start, start + tokens.size(1), device=tokens.device), plain=True)
