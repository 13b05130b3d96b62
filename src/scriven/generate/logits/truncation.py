"""Truncation sampling: drops unlikely tokens, so that the long tail is never drawn from."""

import math
from dataclasses import dataclass, replace

from ..sampling import Candidates, LogitsProcessor, setting

SORTED_FIRST = 512
"""Best tokens that top-p sorts first; all are, where these have too little probability."""


@dataclass(frozen=True)
class TopK(LogitsProcessor):
    """Keeps the k likeliest tokens (Fan et al. 2018, section 5.4)."""

    ORDER = 30

    top_k: int = setting(0, "Draw from the k likeliest tokens only; 0 for all.", low=0)

    @property
    def is_greedy(self) -> bool:
        """Whether one token is all that is left."""
        return self.top_k == 1

    def __call__(self, candidates: Candidates) -> Candidates:
        """(B, N) -> (B, k), the best first."""
        if self.top_k >= candidates.scores.shape[-1]:
            return candidates
        return candidates.pick(*candidates.scores.topk(int(self.top_k), dim=-1))


@dataclass(frozen=True)
class TopP(LogitsProcessor):
    """Top-p or nucleus sampling (Holtzman et al. 2020, section 3.1): keeps the likeliest tokens
    that together have this probability, at least one."""

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
        # sorting 50,000 tokens costs more than a small model's step, so only the best few are
        # sorted, and all of them when some row needs more
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


@dataclass(frozen=True)
class MinP(LogitsProcessor):
    """Drops tokens whose probability is below this fraction of the likeliest token's (Nguyen et al.
    2024, arXiv 2407.01082)."""

    ORDER = 50

    min_p: float = setting(
        0.0,
        "Drop tokens less likely than this fraction of the likeliest one; 0 for none.",
        low=0,
        high=1,
    )

    def __call__(self, candidates: Candidates) -> Candidates:
        """(B, N) -> (B, N)."""
        # the best score is 0, so a score is the logarithm of the ratio to the likeliest token
        too_low = candidates.scores < math.log(self.min_p)
        return replace(candidates, scores=candidates.scores.masked_fill(too_low, -math.inf))
