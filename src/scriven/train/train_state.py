"""What a run is, where it stands, and its checkpoint as tensors and JSON values."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..distributed import SINGLE_PROCESS, DistributedContext
from ..runtime import Runtime, restore_rng_state, rng_state
from .datasets import TrainDataset
from .optim.base import Optimizers
from .parallel import Parallel
from .recurrent_state import TBPTTState
from .request import UserComponents
from .train_plan import TrainPlan

Tensors = dict[str, dict[str, torch.Tensor]]
"""Group (a file of a checkpoint) -> name -> tensor."""


@dataclass(frozen=True)
class Run:
    """What is trained, on what, where, and with which of the user's own components."""

    plan: TrainPlan
    dataset: TrainDataset
    folder: Path
    """Locked, and with its scriven.json written."""
    metadata: dict[str, Any]
    """The content of scriven.json."""
    runtime: Runtime
    components: UserComponents = field(default_factory=UserComponents)
    dist: DistributedContext = SINGLE_PROCESS

    def introduction(self, parameters: int, mode: str | None) -> str:
        """What is trained, on what, and where.

        Args:
            parameters: number of weights.
            mode: how several processes share the model, as `Parallel.mode`.
        """
        plan, model, tokenizer = self.plan, self.plan.model, self.dataset.tokenizer
        processes = f", {self.dist.world_size} processes ({mode})" if mode else ""
        return (
            f"{self.folder}: {plan.architecture}, {parameters:,} parameters ({model.layers} "
            f"layers, width {model.d_model}, context {model.context_length}), {tokenizer.kind} "
            f"tokenizer of {tokenizer.vocab_size:,}, {self.dataset.size}, {self.runtime.device} "
            f"in {plan.settings.runtime.dtype}{processes}"
        )


@dataclass
class TrainState:
    """Where a run stands; part of every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    samples: int = 0
    """Number of the next sample; runs ahead of the steps after a rollback."""
    best_score: float | None = None
    """`Score.selection_value` of the best evaluation; less is better."""
    best_step: int = 0
    evals_without_improvement: int = 0
    nonfinite_steps: int = 0
    """Consecutive steps that were skipped."""
    rollbacks: int = 0
    lr_backoff: float = 1.0
    """Factor on the learning rate, halved at each rollback."""
    budget_fraction: float = 1.0
    """Fraction of the budget in use; less than 1 after early stopping brought the decay forward."""
    last_eval_seconds: float = 0.0
    last_eval_step: int = 0
    converged: bool = False
    """Whether early stopping ended the run."""
    extra_seconds: float = 0.0
    """Seconds beyond a wall-clock budget, granted for a text that took long to prepare."""

    def advance(self, batch_size: int, num_tokens: int, seconds: float) -> None:
        """Counts a step."""
        self.step += 1
        self.samples += batch_size
        self.tokens += num_tokens
        self.seconds = seconds


def state_dict(
    parallel: Parallel,
    optimizers: Optimizers,
    recurrent_state: TBPTTState | None,
    state: TrainState,
    device: torch.device,
) -> tuple[Tensors, dict[str, Any]]:
    """Everything a run needs to resume, on any number of processes: (tensors, JSON values).

    Every process has to call this.
    """
    # full tensors: a checkpoint does not depend on the number of processes
    tensors, numbers = optimizers.state()
    groups = {
        "model": parallel.full_tensors(parallel.task.state_dict()),
        "optimizer": parallel.full_tensors(tensors),
        "random": rng_state(device),
    }
    if recurrent_state is not None and (tensors := recurrent_state.state_dict(parallel.dist)):
        groups["recurrent_state"] = tensors
    return groups, {"progress": asdict(state), "optimizer": numbers}


def load_state_dict(
    parallel: Parallel,
    optimizers: Optimizers,
    recurrent_state: TBPTTState | None,
    groups: Tensors,
    values: dict[str, Any],
    device: torch.device,
) -> TrainState:
    """The inverse of `state_dict`."""
    # full tensors are sharded as the weights lie in this run
    parallel.load(groups["model"])
    optimizers.restore(groups["optimizer"], values["optimizer"])
    if recurrent_state is not None:
        recurrent_state.load_state_dict(groups.get("recurrent_state", {}))
    # last, as nothing after it may draw a random number
    restore_rng_state(groups["random"], device)
    return TrainState(**values["progress"])
