"""What a run is, and where it stands."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..distributed import SINGLE_PROCESS, DistributedContext
from ..runtime import Runtime
from .autoconfig import TrainPlan
from .datasets import TrainDataset
from .request import UserComponents


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

    def describe(self, parameters: int, mode: str | None) -> str:
        """What is trained, on what, and where, for a person; `mode`: ddp or fsdp."""
        plan, tokenizer, data = self.plan, self.dataset.tokenizer, self.metadata["data"]
        model, processes = plan.model, self.dist.world_size
        size = f"{data['train_tokens']:,} + {data['validation_tokens']:,} tokens"
        if "validation_rows" in data:
            size = f"{data['rows']:,} + {data['validation_rows']:,} rows"
        return (
            f"{self.folder}: {plan.architecture}, {parameters:,} parameters ({model.layers} "
            f"layers, width {model.d_model}, context {model.context_length}), {tokenizer.kind} "
            f"tokenizer of {tokenizer.vocab_size:,}, {size}, {self.runtime.device} in "
            f"{plan.settings.runtime.dtype}" + (f", {processes} processes ({mode})" if mode else "")
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
    eval_tokens: int | None = None
    """Tokens of the validation part that are evaluated while training; None: all."""
    extra_seconds: float = 0.0
    """Seconds beyond a wall-clock budget, granted for a text that took long to prepare."""

    def advance(self, batch_size: int, num_tokens: int, seconds: float) -> None:
        """Counts a step."""
        self.step += 1
        self.samples += batch_size
        self.tokens += num_tokens
        self.seconds = seconds
