"""What a run is, what scriven.json says of it, and where it stands."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .. import __version__, config, registry
from ..distributed import SINGLE_PROCESS, DistributedContext
from ..runtime import Runtime
from .autoconfig import TrainPlan
from .datasets import TrainDataset
from .request import UserComponents
from .schedule import TrainingHorizon

USER_COMPONENTS = {"optimizer": "optimizer", "loss": "criterion"}
"""Components from Python without which a run cannot be resumed, by the name a user gives them."""


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
    is_new: bool = False
    """Whether the folder was made just now, so that no checkpoint can be in it."""

    @property
    def starts_from_seed(self) -> bool:
        """Whether the state before the first step follows from the seed, and need not be saved:
        not where a model is trained further."""
        return self.components.base_task is None and "finetune" not in self.metadata

    @property
    def branch(self) -> int:
        """How often the run was given a longer budget after its learning rate fell."""
        return len(self.metadata.get("extensions", []))

    @property
    def extension(self) -> dict[str, Any]:
        """Where the present branch began (`extension.extend`); empty for the first one."""
        return self.metadata["extensions"][-1] if self.branch else {}

    @property
    def is_rewarmed(self) -> bool:
        """Whether the learning rate schedule began again in the present branch."""
        return bool(self.extension.get("rewarm"))

    def is_beaten_by(self, score: float | None) -> bool:
        """Whether a `Score.selection_value` is better than the best of earlier branches."""
        best = self.extension.get("best_score")
        return score is not None and score < (math.inf if best is None else best)

    def horizon(self, state: "TrainState", now: float) -> TrainingHorizon:
        """When training ends; `now`: seconds of the run. Grants extra seconds before the first step
        where the text took long to prepare."""
        budget, is_timed = self.plan.budget, self.plan.budget.unit == "seconds"
        if state.step == 0 and is_timed:  # or else the warmup would be over before the first step
            state.schedule_start = now
        start = state.schedule_start
        if self.is_rewarmed:
            start = self.extension["from_seconds" if is_timed else "from_step"]
        if not is_timed:
            return TrainingHorizon(self.plan.steps, 0.0, 0.0, start, state.early_end)
        # at least half of a wall-clock budget, however long the text took to prepare; the extra
        # time is saved with the run, which resumes with the same end
        if state.step == 0:
            state.extra_seconds = max(0.0, now - budget.amount / 2)
        end, reserve = budget.amount + state.extra_seconds, min(3.0, 0.2 * budget.amount)
        return TrainingHorizon(None, end, reserve, start, state.early_end)

    def describe(self, task: nn.Module, mode: str | None) -> str:
        """What is trained, on what, and where, for a person; `mode`: ddp or fsdp."""
        parameters = sum(weight.numel() for weight in task.parameters())
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
    skipped_steps: int = 0
    """All steps that were skipped."""
    rollbacks: int = 0
    lr_backoff: float = 1.0
    """Factor on the learning rate, halved at each rollback."""
    early_end: Sequence[float] = ()
    """`TrainingHorizon.early_end`, once early stopping or the user brought the end forward."""
    last_eval_seconds: float = 0.0
    last_eval_step: int = 0
    converged: bool = False
    """Whether early stopping ended the run."""
    loss_count: int = 0
    """Steps of which `spikes.py` has seen the loss, and their running mean and variance."""
    loss_mean: float = 0.0
    loss_variance: float = 0.0
    schedule_start: float = 0.0
    """Seconds of a wall-clock budget that were spent before the first step, where the learning rate
    schedule begins."""
    extra_seconds: float = 0.0
    """Seconds beyond a wall-clock budget, granted for a text that took long to prepare."""
    flat_step: int = -1
    """The step at which the learning rate began to fall, whose checkpoint is kept; -1: not yet."""
    branch: int = 0
    """`Run.branch` of this state."""
    native_step: bool | None = None
    """Whether compiled code computes the steps (`native_step.py`); None: before the first one."""

    def summary(self) -> dict[str, Any]:
        """What the results of a run say of it."""
        names = ("best_step", "tokens", "skipped_steps", "rollbacks")
        numbers = {name: getattr(self, name) for name in names}
        stopped = "converged" if self.converged else "budget"
        return {"steps": self.step, **numbers, "stopped": stopped}

    def describe_skips(self) -> str:
        """What a loss or gradient that was NaN or infinite has cost, for a person."""
        text = f"{self.skipped_steps} steps were skipped for a NaN or infinite loss or gradient"
        if self.rollbacks:
            text += f", and {self.rollbacks} times training went back, at half the learning rate"
        return f"{text}: a lower --optim.lr and --optim.muon_lr may avoid that"

    def begin_branch(self, branch: int) -> None:
        """From here on, this is the state of a longer training (`extension.py`)."""
        self.branch, self.flat_step = branch, -1
        self.best_score, self.best_step, self.evals_without_improvement = None, 0, 0
        self.early_end, self.converged = (), False

    def advance(self, batch_size: int, num_tokens: int, seconds: float) -> None:
        """Counts a step."""
        self.step += 1
        self.samples += batch_size
        self.tokens += num_tokens
        self.seconds = seconds


def new_metadata(
    plan: TrainPlan,
    dataset: TrainDataset,
    name: str,
    command: str,
    runtime: Runtime,
    components: UserComponents,
    finetune: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """The content of scriven.json before the first step.

    Args:
        finetune: what the task has to know again when the model is loaded.
        base: the model that a run goes on from with other texts.
    """
    tokenizer = dataset.tokenizer
    return {
        "scriven": __version__,
        "name": name,
        "architecture": Path(plan.architecture).stem,
        "task": plan.task,
        "measure": registry.module("scriven.tasks", plan.task).Task.loss_unit,
        "model": config.to_dict(plan.model),
        "settings": {
            **config.to_dict(plan.settings),
            "budget": {"unit": plan.budget.unit, "amount": plan.budget.amount},
            "steps": plan.steps,
            "seed": plan.seed,
        },
        "reasons": plan.reasons,
        "command": command,
        "environment": {**runtime.describe(), "processes": processes},
        "data": dataset.info,
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            **({} if components.tokenizer is None else {"given": True}),
        },
        **({} if finetune is None else {"finetune": dict(finetune)}),
        **({} if base is None else {"base": dict(base)}),
        "user_components": [
            name for name, part in USER_COMPONENTS.items() if getattr(components, part) is not None
        ],
        "results": None,
    }
