"""Repetition penalty (CTRL, Keskar et al. 2019, section 4.1), in the form all libraries use."""

from dataclasses import dataclass, replace

from ..sampling import Candidates, LogitsProcessor, setting


@dataclass(frozen=True)
class RepetitionPenalty(LogitsProcessor):
    """Divides positive logits of tokens already in the text, and multiplies negative ones."""

    ORDER = 10  # before the temperature: the sign of the raw logit decides
    WHEN_GREEDY = True
    NEEDS_SEEN_TOKENS = True

    repetition_penalty: float = setting(
        1.0,
        "Above 1, tokens that are already in the text become less likely.",
        low=0,
        high=1000,
        above=True,
    )

    def __call__(self, candidates: Candidates) -> Candidates:
        """(B, V) raw logits -> (B, V) float64."""
        if candidates.seen is None:
            return candidates
        logits = candidates.scores.double()
        penalised = (logits * self.repetition_penalty).where(
            logits < 0, logits / self.repetition_penalty
        )
        # A tiny penalty may overflow to infinity; banned tokens stay at -inf.
        scores = penalised.where(candidates.seen, logits).clamp(max=1e300)
        return replace(candidates, scores=scores)
