"""The model a run trains, on its device: fresh weights, or those of another model; which of them
stay as they are."""

from types import ModuleType
from typing import Any

import torch

from .. import registry
from ..runs.peft import add_adapters
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tasks.shared.supervised import inherit
from ..tokenizers import Tokenizer
from .freeze import freeze
from .request import UserComponents
from .train_plan import TrainPlan


def build_task(
    architecture: ModuleType,
    plan: TrainPlan,
    own: UserComponents,
    runtime: Runtime,
    tokenizer: Tokenizer,
    record: dict[str, Any],
) -> BaseTask:
    """The model with fresh weights or those it starts from."""
    kind = registry.module("scriven.tasks", plan.task)
    backbone = architecture.Model(plan.model)
    facts = record.get("finetune")
    task: BaseTask = kind.Task(backbone, own.criterion, tokenizer.special_token_ids, facts)
    task.initialise()
    if own.weights is not None:
        task.load_state_dict(own.weights)
    if own.base_weights is not None:
        same = facts is not None and facts["base"]["same_answers"]
        inherit(task, own.base_weights, same)
    return task.to(runtime.device)


def check_weights(
    architecture: ModuleType, plan: TrainPlan, tokenizer: Tokenizer, facts: dict[str, Any]
) -> None:
    """Refuses a fine-tuning that has nothing to train, before anything is made or written.

    Raises:
        SettingError: says why, and what can be trained.
    """
    kind = registry.module("scriven.tasks", plan.task)
    with torch.device("meta"):
        task = kind.Task(architecture.Model(plan.model), None, tokenizer.special_token_ids, facts)
        prepare_weights(task, architecture, plan, {"finetune": facts})


def prepare_weights(
    task: BaseTask, architecture: ModuleType, plan: TrainPlan, record: dict[str, Any]
) -> dict[str, int]:
    """Adds adapters and freezes weights, as a fine-tuning asks for.

    Returns:
        The weights of which only some rows are trained, with the first of these.
    """
    facts = record.get("finetune")
    if facts is None:
        return {}
    finetune = plan.settings.finetune
    if finetune.weights == "lora":
        add_adapters(task, architecture, plan.model, finetune.lora_rank, kind=plan.task)
    return freeze(task, finetune.weights, facts["base"]["vocab_size"])
