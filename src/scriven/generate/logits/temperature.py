"""Temperature (Ackley et al. 1985; for text Holtzman et al. 2020, section 4.2)."""

from dataclasses import dataclass, replace

from ..sampling import Candidates, LogitsProcessor, setting


@dataclass(frozen=True)
class Temperature(LogitsProcessor):
    """Divides logits by the temperature, after subtracting the best one so that none overflows."""

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
