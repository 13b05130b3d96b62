"""How long a run lasts: wall clock, steps, passes through the text, or tokens."""

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import SettingError

Unit = Literal["seconds", "steps", "epochs", "tokens"]

SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
FACTORS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
MOST = 1e18
EXAMPLES = "use for example 10m, 2h, 2000steps, 3epochs or 50Mtokens"


@dataclass(frozen=True)
class Budget:
    """An amount of one unit."""

    unit: Unit
    amount: float

    def total_steps(self, tokens_per_step: int, tokens_per_epoch: int) -> int | None:
        """Updates this budget pays for; None for wall clock."""
        if self.unit == "seconds":
            return None
        if self.unit == "steps":
            return int(self.amount)
        tokens = self.amount * (tokens_per_epoch if self.unit == "epochs" else 1)
        return max(1, round(tokens / tokens_per_step))


def parse_budget(text: str) -> Budget:
    """`10m`, `90s`, `2h`, `2000steps`, `3epochs`, `50Mtokens`.

    Raises:
        SettingError: anything else, or nothing at all.
    """
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)([a-zA-Z]*)", "".join(str(text).split()))
    if not found:
        raise SettingError(f"--budget {text!r} is not a budget: {EXAMPLES}")
    try:
        number = float(found[1])
    except ValueError as error:
        raise SettingError(f"--budget {text!r} is not a budget: {EXAMPLES}") from error
    word = found[2].lower()
    if word in SECONDS:
        return _positive(Budget("seconds", number * SECONDS[word]), text)
    for unit in ("step", "epoch", "token"):
        factor = word.removesuffix("s").removesuffix(unit)
        if word.removesuffix("s").endswith(unit) and factor in FACTORS:
            amount = number * FACTORS[factor]
            return _positive(Budget(f"{unit}s", amount), text)  # type: ignore[arg-type]
    raise SettingError(f"--budget {text!r} has no known unit: {EXAMPLES}")


def _positive(budget: Budget, text: str) -> Budget:
    if budget.amount <= 0 or (budget.unit == "steps" and budget.amount < 1):
        raise SettingError(f"--budget {text!r} leaves nothing to train: {EXAMPLES}")
    if budget.amount > MOST:
        raise SettingError(f"--budget {text!r} never ends: {EXAMPLES}")
    return budget


@dataclass
class Horizon:
    """How far a run has come, as a share of its budget.

    For a wall-clock budget the clock is read, so a machine that slows down half-way still ends
    fully decayed at the deadline.
    """

    steps: int | None
    """Total updates, or None for wall clock."""
    seconds: float
    """Seconds of the budget, for wall clock."""
    reserve: float = 0.0
    """Seconds kept back for the last evaluation and save."""
    shortened: float = 1.0
    """Share of the budget in use; less than 1 after `finish_from`."""

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 when the budget is spent."""
        if self.steps is not None:
            share = step / self.steps
        else:
            share = seconds / max(1e-9, self.seconds - self.reserve)
        return min(1.0, share / self.shortened)

    def finish_from(self, progress: float, decay: float) -> None:
        """Starts the decay of a flat schedule now, and so shortens the run."""
        self.shortened *= min(1.0, progress / (1 - decay))
