"""Processors that scale logits: the repetition penalty, then the temperature."""

from dataclasses import dataclass, replace

from ..sampling import Candidates, LogitsProcessor, setting


@dataclass(frozen=True)
class RepetitionPenalty(LogitsProcessor):
    """Divides positive logits of tokens already in the text, and multiplies negative ones (CTRL,
    Keskar et al. 2019, section 4.1), in the form all libraries use."""

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
        logits, penalty = candidates.scores.double(), self.repetition_penalty
        penalised = (logits * penalty).where(logits < 0, logits / penalty)
        # A tiny penalty may overflow to infinity; banned tokens stay at -inf.
        scores = penalised.where(candidates.seen, logits).clamp(max=1e300)
        return replace(candidates, scores=scores)


@dataclass(frozen=True)
class Temperature(LogitsProcessor):
    """Divides logits by the temperature, after subtracting the best one so that none overflows
    (Ackley et al. 1985; for text Holtzman et al. 2020, section 4.2)."""

    ORDER = 20
    ALWAYS_ACTIVE = True  # later processors rely on the best score being 0

    temperature: float = setting(
        1.0,
        "0 always takes the likeliest token (greedy decoding), 1 draws from the model's own "
        "distribution; below 1 text is safer, above 1 bolder.",
        low=0,
        high=100,
    )

    @property
    def is_greedy(self) -> bool:
        """Whether the temperature is 0, or so small that dividing by it would overflow."""
        return self.temperature < 1e-5

    def __call__(self, candidates: Candidates) -> Candidates:
        """(B, V) logits -> (B, V) float64 scores, of which the best is 0."""
        logits = candidates.scores.double()
        best = logits.amax(dim=-1, keepdim=True)  # (B, 1)
        return replace(candidates, scores=(logits - best) / self.temperature)
