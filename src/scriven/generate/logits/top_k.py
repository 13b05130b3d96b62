"""Top-k sampling (Fan et al. 2018, section 5.4)."""

from dataclasses import dataclass

from .base import Candidates, LogitsProcessor, setting


@dataclass(frozen=True)
class TopK(LogitsProcessor):
    """Keeps the k likeliest tokens."""

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
