"""Where a run stands, what the loop asks of its surroundings, and how a run ended."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..data.batch import Batch
from ..evaluate.loss import Score
from ..runtime import random_state, restore_random_state
from .optim.base import Optimizers
from .parallel import Parallel
from .recurrent_state import RecurrentState


@dataclass
class TrainState:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    samples: int = 0
    """Number of the next window; runs ahead of the steps after a rollback."""
    best_rank: float | None = None
    """`Score.selection_metric` of the best evaluation."""
    best_step: int = 0
    stale: int = 0
    """Evaluations in a row without a better one."""
    bad: int = 0
    """Updates in a row that were skipped."""
    rollbacks: int = 0
    caution: float = 1.0
    """Factor on the learning rate, halved at each rollback."""
    shortened: float = 1.0
    """See `TrainingHorizon.budget_fraction`."""
    evaluated: float = 0.0
    """Seconds at the last evaluation, for wall-clock budgets."""
    looked: int = 0
    """Step of the last evaluation."""
    converged: bool = False
    """Ended because nothing improved any more."""
    granted: float = 0.0
    """Seconds beyond a wall-clock budget, for a text that took long to prepare."""


@dataclass(frozen=True)
class Hooks:
    """What the loop asks of its surroundings."""

    batch: Callable[[int], Batch]
    """The batch whose first window has this number."""
    evaluate: Callable[[Callable[[], bool]], Score | None]
    """Score on the whole validation part; gives up with None when the argument says so."""
    save: Callable[[TrainState], None]
    """Writes a checkpoint."""
    better: Callable[[TrainState, Score], None]
    """Keeps the present weights as the best so far."""
    restore: Callable[[], TrainState | None]
    """Goes back to the last healthy checkpoint."""
    sample: Callable[[], str]
    """A little of the model's writing."""
    baseline: Callable[[], None]
    """Makes sure there is something to compare the score with; costs time only once."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    progress: TrainState
    reason: str
    """budget, converged or interrupted."""
    tokens_per_second: float
    score: Score | None
    """The last evaluation."""


def state_of(
    parallel: Parallel,
    optimizers: Optimizers,
    carry: RecurrentState,
    progress: TrainState,
    device: torch.device,
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Everything a run needs to go on, on any number of processes: (tensors by file, JSON values).

    All processes must ask.
    """
    tensors, numbers = optimizers.state()
    files = {
        "model": parallel.gathered(parallel.task.state_dict()),
        "optimizer": parallel.gathered(tensors),
        "random": random_state(device),
    }
    carried = carry.tensors(parallel.dist)
    if carried:
        files["carried"] = carried
    return files, {"progress": asdict(progress), "optimizer": numbers}


def restore_state(
    parallel: Parallel,
    optimizers: Optimizers,
    carry: RecurrentState,
    files: dict[str, dict[str, torch.Tensor]],
    state: dict[str, Any],
    device: torch.device,
) -> TrainState:
    """The inverse of `state_of`."""
    parallel.load(files["model"])
    optimizers.restore(files["optimizer"], state["optimizer"])
    carry.restore(files.get("carried", {}))
    restore_random_state(files["random"], device)
    return TrainState(**state["progress"])
