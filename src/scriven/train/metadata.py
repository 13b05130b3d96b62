"""What a run says of itself before the first step: scriven.json, and one line for the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__, config, registry
from ..runtime import Runtime
from ..tasks.base import BaseTask
from .datasets import TrainDataset
from .train_plan import TrainPlan
from .train_state import Run


def new_metadata(
    plan: TrainPlan,
    dataset: TrainDataset,
    name: str,
    command: str,
    runtime: Runtime,
    components: list[str],
    finetune: Mapping[str, Any] | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """The content of scriven.json before the first step.

    Args:
        components: names of the user's own components, without which a run cannot be resumed.
        finetune: what the task has to know again when the model is loaded.
        processes: that train together.
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
        },
        **({} if finetune is None else {"finetune": dict(finetune)}),
        "own": components,
        "results": None,
    }


def introduction(run: Run, task: BaseTask, mode: str | None) -> str:
    """What is trained, on what, and where.

    Args:
        mode: how several processes share the model, as `Parallel.mode`.
    """
    plan, model, tokenizer = run.plan, run.plan.model, run.dataset.tokenizer
    parameters = sum(weight.numel() for weight in task.parameters())
    processes = f", {run.dist.world_size} processes ({mode})" if mode else ""
    return (
        f"{run.folder}: {plan.architecture}, {parameters:,} parameters ({model.layers} layers, "
        f"width {model.d_model}, context {model.context_length}), {tokenizer.kind} tokenizer of "
        f"{tokenizer.vocab_size:,}, {run.dataset.size}, {run.runtime.device} in "
        f"{plan.settings.runtime.dtype}{processes}"
    )
