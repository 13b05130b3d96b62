"""How long a run lasts: wall clock, steps, epochs, or tokens."""

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
        """Optimizer steps this budget pays for; None for wall clock."""
        # a clock does not count steps
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
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)([a-zA-Z]*)", "".join(str(text).split()))
    if not match:
        raise SettingError(f"--budget {text!r} is not a budget: {EXAMPLES}")
    try:
        number = float(match[1])
    except ValueError as error:
        raise SettingError(f"--budget {text!r} is not a budget: {EXAMPLES}") from error
    # seconds first: `m` means minutes, and `Mtokens` ends in a unit
    word, budget = match[2].lower(), None
    if word in SECONDS:
        budget = Budget("seconds", number * SECONDS[word])
    units: tuple[Unit, ...] = ("steps", "epochs", "tokens")
    for unit in units:
        # 50Mtokens: the factor is what stands before the unit, whose plural is optional
        factor = word.removesuffix("s").removesuffix(unit[:-1])
        if word.removesuffix("s").endswith(unit[:-1]) and factor in FACTORS:
            budget = Budget(unit, number * FACTORS[factor])
    if budget is None:
        raise SettingError(f"--budget {text!r} has no known unit: {EXAMPLES}")
    if budget.amount <= 0 or (budget.unit == "steps" and budget.amount < 1):
        raise SettingError(f"--budget {text!r} leaves nothing to train: {EXAMPLES}")
    if budget.amount > MOST:
        raise SettingError(f"--budget {text!r} never ends: {EXAMPLES}")
    return budget


@dataclass
class TrainingHorizon:
    """The end of a run, and how far from it a run is as a fraction of its budget.

    For a wall-clock budget the clock is read, so a machine that slows down half-way still ends
    fully decayed at the deadline.
    """

    steps: int | None
    """Total steps, or None for a wall-clock budget."""
    seconds: float
    """Seconds of a wall-clock budget."""
    eval_reserve: float = 0.0
    """Seconds of it kept for the last evaluation and save."""
    budget_fraction: float = 1.0
    """Fraction of the budget in use; less than 1 after `start_early_decay`."""

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 when the budget is spent."""
        # the clock or the step, whichever the budget counts
        if self.steps is not None:
            fraction = step / self.steps
        else:
            fraction = seconds / max(1e-9, self.seconds - self.eval_reserve)
        return min(1.0, fraction / self.budget_fraction)

    def start_early_decay(self, progress: float, decay_fraction: float) -> None:
        """Starts the decay of a flat schedule now, which shortens the run."""
        # wsd decays over its last `decay_fraction`: the run ends where that starts now
        self.budget_fraction *= min(1.0, progress / (1 - decay_fraction))
