"""The plan of a fine-tuning: the settings that were left open, for a base model and a table.

Like `autoconfig.py`, which plans a pre-training, it knows no clock and no measurement.
"""

import dataclasses
from typing import Any

from .. import registry
from ..errors import SettingError
from ..runs.load import Loaded
from ..runtime import Runtime, available_memory
from ..settings import FinetuneSettings, OptimSettings, Settings
from .autoconfig import Choices, DatasetStats, TrainPlan, tokens_per_row
from .optim.base import OptimizerModule
from .scaling_laws import check_fits, fits
from .schedule import Budget

# Evaluations without improvement before early stopping: few rows soon overfit.
FINETUNE_PATIENCE = 4

# Length of a fine-tuning without a budget: epochs, and steps at least.
FINETUNE_EPOCHS, FINETUNE_STEPS = 10, 400

# Evaluations of a fine-tuning, at most.
FINETUNE_EVALS = 20

# Rows per step, for labels; with LoRA adapters on a CPU, where half as many take half the time.
FINETUNE_ROWS, LORA_ROWS = 32, 16

# Wider models with adapters for labels get a lower learning rate: at a width of 576 a sixteenth of
# that for texts. Their head starts as a linear probe, which a higher one undoes (LOG.md).
LORA_WIDTH = 36

# Tokens per step, for written answers.
FINETUNE_TOKENS = 4096

# Tokens of a micro-batch on a CPU: one that does not fit into its caches takes a quarter longer
# (LOG.md).
CPU_MICRO_BATCH_TOKENS = 5120

# A head for labels learns in a few careful epochs, as LoRA adapters do.
LABEL_FINETUNING = Settings(
    optim=OptimSettings(
        optimizer="adamw", lr_schedule="linear", warmup_fraction=0.1, weight_decay=0.01
    )
)

# Parameters from which a CPU trains LoRA adapters: a step of all weights takes about twice as long.
LARGE_ON_CPU = 50_000_000

# Written answers are learned as in pre-training, at half the learning rate.
TEXT_FINETUNING = Settings(optim=OptimSettings(muon_lr=0.01))


def finetune_defaults(
    task: str, weights: str, parameters: int = 0, on_cpu: bool = False
) -> Settings:
    """Where a fine-tuning for a task begins.

    Args:
        weights: those that are trained, as in FinetuneSettings.
        parameters: of the base model.
    """
    writes = registry.module("scriven.tasks", task).Task.is_generative
    if writes and weights != "lora":
        return TEXT_FINETUNING
    if on_cpu and parameters >= LARGE_ON_CPU and not writes:
        return dataclasses.replace(
            LABEL_FINETUNING, finetune=FinetuneSettings(weights="lora", lm_loss_weight=0.0)
        )
    return LABEL_FINETUNING


def plan_finetuning(
    base: Loaded,
    model: Any,
    settings: Settings,
    budget: Budget | None,
    seed: int,
    task: str,
    data: DatasetStats,
    runtime: Runtime,
) -> TrainPlan:
    """Plans a fine-tuning on the rows of a table.

    Args:
        budget: as asked for; chosen by the number of rows otherwise.
        data: with `rows` and `longest`.

    Raises:
        ResourceError: it does not fit into memory.
    """
    assert data.rows is not None and data.longest is not None
    train, choices = settings.train, Choices(settings, runtime)
    if (length := train.initial_context_length) is not None:
        flag = f"--train.initial_context_length={length}"
        raise SettingError(f"{flag} is for pre-training: leave it out")
    # 1. rows per step, at least twenty steps in an epoch, and how many of them at once
    row = tokens_per_row(task, model, data.train_tokens, data.rows)
    lora, on_cpu = settings.finetune.weights == "lora", runtime.device.type == "cpu"
    usual = LORA_ROWS if lora and on_cpu else FINETUNE_ROWS
    if writes := registry.module("scriven.tasks", task).Task.is_generative:
        usual = max(8, min(128, FINETUNE_TOKENS // row))
    batch = train.batch_size or min(usual, max(8, data.rows // 20), data.rows)
    choices.values["train.batch_size"] = batch
    at_once = max(1, CPU_MICRO_BATCH_TOKENS // row) if on_cpu else batch
    choices.values["train.micro_batch_size"] = _micro_batch_size(
        min(batch, at_once),
        train.micro_batch_size and min(batch, train.micro_batch_size),
        model,
        data.longest,
        runtime,
    )
    # 2. the budget, evaluations and early stopping
    epoch = max(1, round(data.rows / batch))  # steps
    if budget is None:
        epochs = max(FINETUNE_EPOCHS, -(-FINETUNE_STEPS // epoch))
        budget = Budget("epochs", epochs)
        choices.reasons["budget"] = f"{epochs} epochs, and at least {FINETUNE_STEPS} steps"
    steps = budget.total_steps(batch * row, data.rows * row)
    if steps is not None:
        interval = min(steps, max(epoch, -(-steps // FINETUNE_EVALS)))
        why = f"once per epoch, at most {FINETUNE_EVALS} times"
        choices.fill("train.eval_interval", interval, why)
    choices.fill("train.patience", FINETUNE_PATIENCE, "few rows soon overfit")
    # 3. learning rate; torch.compile only where asked for
    lr = _peak_lr(settings.optim.optimizer, model.d_model, lora, writes)
    choices.fill("optim.lr", lr, f"for {settings.optim.optimizer} at width {model.d_model}")
    choices.values["runtime.compile"] = bool(settings.runtime.compile)
    frozen = settings.finetune.weights != "full"
    choices.reasons["model.dropout"] = (
        "frozen weights were learned without it" if frozen else "few rows overfit without it"
    )
    kind = base.metadata["tokenizer"]["kind"]
    filled = choices.resolved(dataclasses.replace(settings.tokenizer, kind=kind))
    return TrainPlan(base.architecture, model, filled, budget, seed, steps, task, choices.reasons)


def _peak_lr(optimizer: str, d_model: int, lora: bool, writes: bool) -> float:
    """The peak learning rate; writes: whether answers are texts."""
    lr = OptimizerModule(optimizer).finetune_lr(d_model, lora)
    return lr * min(1.0, LORA_WIDTH / d_model) if lora and not writes else lr


def _micro_batch_size(
    usual: int, asked: int | None, model: Any, longest: int, runtime: Runtime
) -> int:
    """Rows at once that fit into memory: as many as asked for, or else at most the usual number.

    Raises:
        ResourceError: not even one row fits, or not as many as were asked for.
    """
    # no row attends to more positions than the longest one has
    shape = dataclasses.replace(model, context_length=min(model.context_length, longest))
    memory, micro = available_memory(runtime.device), asked or usual
    while micro > 1 and asked is None and not fits(shape, micro * longest, memory):
        micro //= 2
    check_fits(shape, micro * longest, memory)
    return micro
