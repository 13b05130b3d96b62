"""Fills in every setting that was left open when a trained model goes on with other texts, each
with its reason; a pure function of model, text, budget and machine, as `autoconfig.py`.
"""

from ..errors import InputError, ResourceError, SettingError
from ..format import format_bytes
from ..runs.load import Loaded
from ..runtime import Runtime, available_memory
from ..settings import FinetuneSettings, OptimSettings, Settings, TrainSettings
from .autoconfig import (
    SMALLEST_CONTEXT,
    Choices,
    DatasetStats,
    TrainPlan,
    default_eval_interval,
    tokens_per_row,
)
from .optim.base import OptimizerModule
from .request import Overrides
from .scaling_laws import GPU_TOKENS, activations_per_token, sequences_per_step, tokens_per_step
from .schedule import Budget

LORA_PARAMETERS = 50_000_000
"""On a CPU, models of more parameters get LoRA adapters."""

SEQUENCE_LENGTH = 1024
"""Tokens of a row where the model reads longer ones."""

LORA_TOKENS = 1024
"""Tokens of a step with adapters on a CPU."""

PATIENCE = 4
"""Evaluations without improvement before early stopping."""

# Adapters: AdamW; all weights: as in pre-training, at lower learning rates.
ADAPTERS = Settings(
    optim=OptimSettings(
        optimizer="adamw", lr_schedule="linear", warmup_fraction=0.05, weight_decay=0.0
    ),
    train=TrainSettings(sample_seconds=0.0),
    finetune=FinetuneSettings(weights="lora"),
)
ALL_WEIGHTS = Settings(optim=OptimSettings(muon_lr=0.01, warmup_fraction=0.05))


def trains_adapters(parameters: int, runtime: Runtime, overrides: Overrides) -> bool:
    """Whether LoRA adapters are trained: as asked, or for a model too large for this machine."""
    asked = overrides.sections.get("finetune", {}).get("weights")
    if asked is not None:
        return asked == "lora"
    if runtime.device.type == "cpu":
        return parameters > LORA_PARAMETERS
    free = available_memory(runtime.device)
    return free is not None and 16 * parameters > free / 2


def plan_adaptation(
    base: Loaded,
    settings: Settings,
    budget: Budget,
    seed: int,
    task: str,
    data: DatasetStats,
    runtime: Runtime,
    world_size: int = 1,
) -> TrainPlan:
    """Plans an adaptation.

    Args:
        settings: what was asked for, over the defaults; None fields are filled.
        task: a file of tasks/.
        world_size: processes that share each batch.

    Raises:
        SettingError: an impossible number. ResourceError: it does not fit into memory.
        InputError: the text is too short for the windows.
    """
    choices, model = Choices(settings, runtime), base.task.backbone.config
    gpu, lora = runtime.device.type != "cpu", settings.finetune.weights == "lora"
    _refuse(settings, lora and world_size > 1)
    parameters = sum(weight.numel() for weight in base.task.parameters())
    why = f"{parameters:,} parameters, of which a CPU can train few" if lora else "a small model"
    choices.reasons["finetune.weights"] = why
    # 1. tokens of a row
    length = _sequence_length(choices, model, task, data)
    # 2. sequences per step, and how many of them at once
    epochs = {"tokens": 1.0, "epochs": float(data.train_tokens)}
    horizon = budget.amount * epochs[budget.unit] if budget.unit in epochs else None
    tokens = LORA_TOKENS if lora and not gpu else tokens_per_step(gpu, horizon, data.train_tokens)
    rows = sequences_per_step(tokens, length, data.train_tokens)
    rows = -(-rows // world_size) * world_size
    batch = choices.fill("train.batch_size", rows, f"about {tokens:,} tokens a step")
    at_once = settings.train.batch_size or max(1, GPU_TOKENS // length)
    micro = min(max(1, batch // world_size), settings.train.micro_batch_size or at_once)
    if lora and not gpu:
        micro = settings.train.micro_batch_size or max(1, min(batch, LORA_TOKENS // length))
    choices.values["train.micro_batch_size"] = micro
    _fit_memory(choices, model, parameters, micro * length, lora, runtime)
    # 3. evaluations, early stopping, learning rate
    step = batch * tokens_per_row(task, model, data.train_tokens, data.rows)
    if task == "language":
        step = batch * length
    steps = budget.total_steps(step, data.train_tokens)
    if steps is not None:
        interval = default_eval_interval(
            steps, step, min(data.validation_tokens, steps * step // 40)
        )
        choices.fill("train.eval_interval", interval, "evaluation takes at most 10 % of training")
    choices.fill("train.patience", PATIENCE, "a model that knows much overfits soon")
    optimizer = OptimizerModule(settings.optim.optimizer)
    lr = optimizer.finetune_lr(model.d_model, lora)
    choices.fill("optim.lr", lr, "warmed up again, for a model that is trained already")
    choices.values["runtime.compile"] = bool(settings.runtime.compile)
    filled = choices.resolved(data.tokenizer)
    return TrainPlan(base.architecture, model, filled, budget, seed, steps, task, choices.reasons)


def _refuse(settings: Settings, shares_adapters: bool) -> None:
    """Refuses settings of a pre-training; `shares_adapters`: among several processes."""
    if shares_adapters and settings.runtime.parallel == "fsdp":
        raise SettingError(
            "--runtime.parallel=fsdp: the weights beside adapters are not sharded: leave it out"
        )
    if settings.train.initial_context_length is not None:
        raise SettingError("--train.initial_context_length is for pre-training: leave it out")


def _sequence_length(choices: Choices, model: object, task: str, data: DatasetStats) -> int:
    """Tokens of a training row: the model's context, or less of a long one or for a short text."""
    context: int = model.context_length  # type: ignore[attr-defined]
    asked = choices.settings.train.sequence_length
    if task != "language":
        if asked is not None:
            raise SettingError(
                f"--train.sequence_length={asked} is for models that predict the next token"
            )
        return context
    if asked is not None and asked > context:
        raise SettingError(f"--train.sequence_length={asked}: this model reads {context} tokens")
    length = min(context, SEQUENCE_LENGTH) if asked is None else asked
    if asked is None:
        while length > SMALLEST_CONTEXT and data.train_tokens < 4 * length:
            length //= 2
    if data.train_tokens < length + 1:
        raise InputError(
            f"the training text has {data.train_tokens:,} tokens, fewer than a row of {length}: "
            "give more text, or lower --train.sequence_length"
        )
    if length < context:
        choices.values["train.sequence_length"] = length
        choices.reasons["train.sequence_length"] = f"the model reads up to {context:,}"
    return length


def _fit_memory(
    choices: Choices, model: object, parameters: int, tokens: int, lora: bool, runtime: Runtime
) -> None:
    """Turns activation checkpointing on where memory asks for it, and refuses what cannot fit."""
    free = available_memory(runtime.device)
    if free is None:
        return
    width = 2 if runtime.dtype.itemsize == 2 else 4
    weights = parameters * (width if lora else 16)
    activations = 4 * tokens * activations_per_token(model)
    if weights + activations > 0.9 * free and not choices.settings.runtime.activation_checkpointing:
        why = "the activations of all layers together would not fit into memory"
        choices.values["runtime.activation_checkpointing"] = True
        choices.reasons["runtime.activation_checkpointing"] = why
        activations //= model.total_layers  # type: ignore[attr-defined]
    if weights + activations > free:
        raise ResourceError(
            f"this model needs about {format_bytes(weights + activations)} to train and "
            f"{format_bytes(free)} are free: use --lora 8, or a smaller model"
        )
