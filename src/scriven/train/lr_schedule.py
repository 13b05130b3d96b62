"""What changes over a run: progress through the budget -> learning rate and sequence length.

Progress runs from 0 to 1 in whatever the budget counts, seconds included, so a schedule has decayed
when the budget is spent, on a fast machine or a slow one.

A schedule is a function of (progress, decay_fraction) that gives the learning rate as a multiple of
the peak. The built-in ones are in `SCHEDULES`; a file of the user's own,
`--optim.lr_schedule ./mine.py`, has such a function with the name `lr_multiplier`.
"""

import math
from collections.abc import Callable
from functools import lru_cache

from .. import registry
from ..errors import SettingError
from ..settings import OptimSettings

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
        context_length: tokens of a whole row.
        initial_length: tokens of a sequence when training begins; None: rows are never split.
        progress: through the budget, from 0 to 1.
    """
    if initial_length is None or progress >= FULL_LENGTH_FROM:
        return 1
    splits = 1
    while context_length % (2 * splits) == 0 and context_length // (2 * splits) >= initial_length:
        splits *= 2
    # splits halve at equal distances of progress: 4, 2, then 1 from FULL_LENGTH_FROM on
    stages = splits.bit_length() - 1
    return splits >> int(progress / FULL_LENGTH_FROM * stages)
