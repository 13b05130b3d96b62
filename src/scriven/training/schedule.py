"""Learning-rate schedules: progress through the budget -> share of the peak rate.

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
    shape = SHAPES[settings.schedule](progress, settings.decay)
    rising = progress / settings.warmup if settings.warmup > 0 else 1.0
    return min(shape, rising + 1e-3)  # the first step of a warm-up is small, not empty
