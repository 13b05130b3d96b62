"""What changes while a run goes on: progress through the budget -> share of the peak rate, and
pieces that windows are cut into.

Progress runs from 0 to 1 in whatever the budget counts, seconds included, so a schedule is
finished when the budget is, on a fast machine or a slow one.
"""

import math
from collections.abc import Callable

from ..settings import OptimSettings

Shape = Callable[[float, float], float]


def wsd(progress: float, decay: float) -> float:
    """Flat, then linear to zero over the last `decay` of the budget (Hu et al. 2024, section 4)."""
    return min(1.0, (1 - progress) / decay) if decay > 0 else 1.0


def linear(progress: float, decay: float) -> float:
    """Linear to zero (Bergsma et al. 2025)."""
    return 1 - progress


def cosine(progress: float, decay: float) -> float:
    """Half a cosine, to zero (Loshchilov and Hutter 2017, section 3)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float, decay: float) -> float:
    """Never decays."""
    return 1.0


SHAPES: dict[str, Shape] = {"wsd": wsd, "linear": linear, "cosine": cosine, "constant": constant}


def rate_share(settings: OptimSettings, progress: float) -> float:
    """Share of the peak rate at a progress in [0, 1], the warm-up included."""
    progress = min(1.0, max(0.0, progress))
    shape = SHAPES[settings.lr_schedule](progress, settings.decay_fraction)
    rising = progress / settings.warmup_fraction if settings.warmup_fraction > 0 else 1.0
    return min(shape, rising + 1e-3)  # the first step of a warm-up is small, not empty


WHOLE_FROM = 0.5
"""Progress from which windows are whole."""


def pieces(context: int, first: int | None, progress: float) -> int:
    """How many pieces each window of `context` tokens is cut into, a power of two.

    Short windows first: a token costs less there, and what is near teaches most at the beginning
    (Li et al. 2022, "The Stability-Efficiency Dilemma: Sequence Length Warmup").

    Args:
        context: tokens of a window.
        first: tokens of a piece when training begins; None: windows are never cut.
        progress: through the budget, from 0 to 1.
    """
    if first is None or progress >= WHOLE_FROM:
        return 1
    most = 1
    while context % (2 * most) == 0 and context // (2 * most) >= first:
        most *= 2
    stages = most.bit_length() - 1
    return most >> int(progress / WHOLE_FROM * stages)
