"""Where in its row an answer stands: what a model makes of it as text is read off there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .examples import ROUND


@dataclass(frozen=True)
class Span:
    """The tokens of each row's answer: those after `start` and before `end`."""

    start: Tensor
    """(B,) places of the delimiter."""
    end: Tensor
    """(B,) places of the extract token; before `start` where a row has no answer."""

    def places(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) the place before each token of the answers in rows (B, T); (B, N) which count.

        N is rounded up, as the widths of rows are.
        """
        longest = int((self.end - self.start).max()) - 1
        d_model = max(1, min(-(-longest // ROUND) * ROUND, tokens.size(1) - 2))
        at = self.start[:, None] + torch.arange(d_model, device=tokens.device)
        return at.clamp(max=tokens.size(1) - 2), at + 1 < self.end[:, None]

    def alone(self, tokens: Tensor, first: int) -> tuple[Tensor, "Span"]:
        """(B, N + 2) the token `first`, the delimiter and the answer, as if nothing stood before
        them; and where the answers are there."""
        at, _ = self.places(tokens)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        begun = torch.full_like(at[:, :1], first)
        marked = tokens[rows, at[:, :1]]
        start = torch.ones_like(self.start)
        return torch.cat([begun, marked, tokens[rows, at + 1]], 1), Span(
            start, start + self.end - self.start
        )
