"""Spikes of the loss: steps that stand out from those before them.

A step counts as one if its loss is more than 6 standard deviations above the mean of about the last
24 steps: OLMo's rule, over fewer steps, as a short run's loss falls much within its 128. Mean and
variance are exponential averages, so that they fit into a checkpoint; a spike counts as no more
than the limit it exceeds, so that one does not hide the next, and a loss that stays high is the
usual one before long.
"""

import math

from .train_state import TrainState
from .train_step import StepMetrics

SIGMAS = 6.0
STEPS = 24
"""Over which the averages are taken."""
FIRST_STEPS = 32
"""Steps at the beginning of which none is a spike: too few to compare with."""
SMALLEST_DEVIATION = 0.01
"""Of the mean: below it, noise of a nearly constant loss would count."""


def spike_limit(state: TrainState) -> float:
    """The loss above which the next step is a spike, in nats per target."""
    if state.loss_count < FIRST_STEPS:
        return math.inf
    deviation = max(math.sqrt(state.loss_variance), SMALLEST_DEVIATION * abs(state.loss_mean))
    return state.loss_mean + SIGMAS * deviation


def follow_loss(state: TrainState, metrics: StepMetrics, measure: str = "loss") -> str | None:
    """Takes the finite loss of a step into the averages; says so where it is a spike.

    Args:
        measure: what selects the best weights; of labels, the loss of many batches stands out.
    """
    mean, limit = state.loss_mean, spike_limit(state)
    difference = min(metrics.loss, limit) - mean
    state.loss_count += 1
    weight = 1 / min(state.loss_count, STEPS)  # at first the plain mean
    state.loss_mean += weight * difference
    state.loss_variance = (1 - weight) * (state.loss_variance + weight * difference**2)
    if metrics.loss <= limit or measure != "loss":
        return None
    skipped = "" if metrics.applied else "; step skipped"
    return f"step {state.step}: the loss of {metrics.loss:.3f} is a spike above {mean:.3f}{skipped}"
