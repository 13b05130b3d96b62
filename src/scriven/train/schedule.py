"""How long a run lasts, its progress, and what changes over it: learning rate, sequence length.

Progress runs from 0 to 1 in whatever the budget counts (wall clock, steps, epochs or tokens), so a
schedule has decayed when the budget is spent, on a fast machine or a slow one.

A learning rate schedule is a function of (progress, decay_fraction) that gives the learning rate as
a multiple of the peak. A file of the user's own, `--optim.lr_schedule ./mine.py`, has such a
function with the name `lr_multiplier`.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from .. import registry
from ..errors import SettingError
from ..settings import OptimSettings

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

    def __str__(self) -> str:
        """As a user types it: 90s, 10m, 2000steps, 50Mtokens."""
        factors = {"M": 1e6, "k": 1e3, "": 1.0} if self.unit == "tokens" else {"": 1.0}
        if self.unit == "seconds":
            factors = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
        whole = (each for each in factors.items() if self.amount % each[1] == 0)
        name, factor = next(whole, list(factors.items())[-1])
        return f"{self.amount / factor:.10g}{name}{'' if self.unit == 'seconds' else self.unit}"


def parse_budget(text: str) -> Budget:
    """`10m`, `90s`, `2h`, `2000steps`, `3epochs`, `50Mtokens`.

    Raises:
        SettingError: anything else, or nothing at all.
    """
    if str(text).startswith("+"):
        raise SettingError(f"--budget {text} adds to a run that exists: name it, as --resume RUN")
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
    start: float = 0.0
    """Step, or second of a wall-clock budget, at which the schedule began."""
    early_end: Sequence[float] = ()
    """(spent, progress, end) once the run is to end early: from `spent` on, in steps or seconds,
    progress goes from `progress` to 1 at `end`."""

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 when the budget is spent."""
        # the clock or the step, whichever the budget counts
        spent = seconds if self.steps is None else step
        begin, reached, end = self.start, 0.0, self.end
        if self.early_end:
            begin, reached, _ = self.early_end
        if self.steps is None:
            end -= self.eval_reserve
        return min(1.0, reached + (1 - reached) * (spent - begin) / max(1e-9, end - begin))

    def seconds_left(self, step: int, seconds: float, pace: float) -> float:
        """To the end of the budget: by the clock, or at `pace`, in seconds per step."""
        return max(0.0, self.end - seconds) if self.steps is None else (self.end - step) * pace

    @property
    def end(self) -> float:
        """The step, or the second of a wall-clock budget, at which the run ends."""
        if self.early_end:
            return self.early_end[-1]
        return self.seconds if self.steps is None else self.steps

    def start_early_decay(self, step: int, seconds: float, flat: float) -> None:
        """Starts the decay of a schedule that is flat until `flat` now, which shortens the run: it
        ends as if it had been planned so."""
        spent = seconds if self.steps is None else step
        reserve = self.eval_reserve if self.steps is None else 0.0
        end = self.start + (spent - self.start) / flat + reserve
        self.early_end = (spent, flat, min(self.end, end))

    def finish_within(self, amount: float, step: int, seconds: float, flat: float | None) -> None:
        """Ends the run after `amount` more steps, or seconds of a wall-clock budget; the learning
        rate falls until then. A run that ends before that stays as it is."""
        spent = seconds if self.steps is None else step
        if self.steps is None:  # what is kept for the end comes on top
            amount += self.eval_reserve
        if spent + amount < self.end:
            reached = max(self.progress(step, seconds), flat or 0.0)
            self.early_end = (spent, reached, spent + amount)


Schedule = Callable[[float, float], float]


def wsd(progress: float, decay_fraction: float) -> float:
    """Flat, then linear to zero over the last `decay_fraction` (Hu et al. 2024, section 4)."""
    return min(1.0, (1 - progress) / decay_fraction) if decay_fraction > 0 else 1.0


def linear(progress: float, decay_fraction: float) -> float:
    """Linear to zero (Bergsma et al. 2025)."""
    return 1 - progress


def cosine(progress: float, decay_fraction: float) -> float:
    """Half a cosine, to zero (Loshchilov and Hutter 2017, section 3)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float, decay_fraction: float) -> float:
    """Never decays."""
    return 1.0


# built-in schedules by name
SCHEDULES: dict[str, Schedule] = {
    "wsd": wsd, "linear": linear, "cosine": cosine, "constant": constant,
}  # fmt: skip


@lru_cache(maxsize=8)
def schedule_of(name: str) -> Schedule:
    """The schedule of a name or of the user's own file.

    Raises:
        SettingError: no such name, or a file without `lr_multiplier`.
    """
    # a path comes from the command line only: it is run as code
    if not name.endswith(".py"):
        if name not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise SettingError(f"--optim.lr_schedule={name}: use {known} or a .py file")
        return SCHEDULES[name]
    module = registry.module("scriven.train", name, "schedule")
    schedule: Schedule | None = getattr(module, "lr_multiplier", None)
    if schedule is None:
        raise SettingError(
            f"--optim.lr_schedule={name}: the file has no function "
            "lr_multiplier(progress, decay_fraction)"
        )
    return schedule


def flat_until(settings: OptimSettings) -> float | None:
    """The progress at which a flat learning rate begins to fall; None: it is never flat, or always,
    or nobody knows, as of a user's own schedule."""
    falls = settings.lr_schedule == "wsd" and settings.decay_fraction > 0
    return 1 - settings.decay_fraction if falls else None


def lr_multiplier(settings: OptimSettings, progress: float) -> float:
    """Learning rate as a multiple of the peak, at a progress in [0, 1], warmup included."""
    progress = min(1.0, max(0.0, progress))
    decayed = schedule_of(settings.lr_schedule)(progress, settings.decay_fraction)
    # linear warmup
    warmup = progress / settings.warmup_fraction if settings.warmup_fraction > 0 else 1.0
    return min(decayed, warmup + 1e-3)  # the first step of a warmup is small, not empty


# Progress from which sequences have their full length.
FULL_LENGTH_FROM = 0.5


def sequence_splits(context_length: int, initial_length: int | None, progress: float) -> int:
    """Into how many shorter sequences each row is split, a power of two: sequence-length warmup.

    Short sequences first: a token costs less there, and early training learns mostly from near
    context (Li et al. 2022, "The Stability-Efficiency Dilemma", arXiv 2108.06084).

    Args:
        initial_length: tokens of a sequence when training begins; None: rows are never split.
    """
    if initial_length is None or progress >= FULL_LENGTH_FROM:
        return 1
    splits = 1
    while context_length % (2 * splits) == 0 and context_length // (2 * splits) >= initial_length:
        splits *= 2
    # splits halve at equal distances of progress: 4, 2, then 1 from FULL_LENGTH_FROM on
    stages = splits.bit_length() - 1
    return splits >> int(progress / FULL_LENGTH_FROM * stages)
