"""Top-p or nucleus sampling (Holtzman et al. 2020, section 3.1)."""

import math
from dataclasses import dataclass

from .base import Candidates, LogitsProcessor, setting

SORTED_FIRST = 512
"""Best tokens that are sorted first; all are, where these have too little probability."""


@dataclass(frozen=True)
class TopP(LogitsProcessor):
    """Keeps the likeliest tokens that together have this probability, at least one."""

    ORDER = 40

    top_p: float = setting(
        1.0,
        "Draw from the likeliest tokens that together have this probability; 1 for all.",
        low=0,
        high=1,
        above=True,
    )

    def __call__(self, candidates: Candidates) -> Candidates:
        """(B, N) -> (B, n), the best first; -inf for tokens outside the nucleus."""
        scores = candidates.scores
        total = scores.logsumexp(dim=-1, keepdim=True)
        # Sorting 50,000 tokens costs more than a small model's step, so only the best few are
        # sorted, and all of them when some row needs more.
        size = min(SORTED_FIRST, scores.shape[-1])
        while True:
            values, columns = scores.topk(size, dim=-1)
            probabilities = (values - total).exp()
            # (B, n) probability of all likelier tokens together
            before = probabilities.cumsum(dim=-1) - probabilities
            if size == scores.shape[-1] or bool((before[:, -1] >= self.top_p).all()):
                values = values.masked_fill(before >= self.top_p, -math.inf)
                return candidates.pick(values, columns)
            size = scores.shape[-1]
