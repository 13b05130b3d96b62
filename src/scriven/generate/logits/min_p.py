"""Min-p sampling (Nguyen et al. 2024, arXiv 2407.01082)."""

import math
from dataclasses import dataclass, replace

from .base import Candidates, LogitsProcessor, setting


@dataclass(frozen=True)
class MinP(LogitsProcessor):
    """Drops tokens whose probability is below this fraction of the likeliest token's."""

    ORDER = 50

    min_p: float = setting(
        0.0,
        "Drop tokens less likely than this fraction of the likeliest one; 0 for none.",
        low=0,
        high=1,
    )

    def __call__(self, candidates: Candidates) -> Candidates:
        """(B, N) -> (B, N)."""
        # The best score is 0, so a score is the logarithm of the ratio to the likeliest token.
        too_low = candidates.scores < math.log(self.min_p)
        return replace(candidates, scores=candidates.scores.masked_fill(too_low, -math.inf))
