"""A figure: a score, and between what bounds it is to be believed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreWithCI:
    """One score of one set of rows."""

    name: str
    value: float
    """Of all rows, each once."""
    low: float
    """Lower end of the 95 % interval; never above the value."""
    high: float
    """Upper end; never below the value."""
    signature: str | None = None
    """How a score with many variants was computed, so that others can repeat it."""

    def to_dict(self) -> dict[str, str | float]:
        """Plain values for JSON; without a signature where there is none."""
        plain: dict[str, str | float] = {
            "name": self.name,
            "value": self.value,
            "low": self.low,
            "high": self.high,
        }
        return plain if self.signature is None else {**plain, "signature": self.signature}

    def __str__(self) -> str:
        """As `accuracy 0.832 [0.815, 0.849]`; scores out of 100, all signed, with one place."""
        places = 3 if self.signature is None else 1
        low, high = f"{self.low:.{places}f}", f"{self.high:.{places}f}"
        return f"{self.name} {self.value:.{places}f} [{low}, {high}]"
