"""Every setting a person left open, chosen for the text, the budget and the machine, with a reason.

A plan is a pure function of its inputs: no clock and no probe decides, so the same command on the
same machine plans the same run.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .. import config, registry
from ..errors import InputError, SettingError
from ..models.shared.backbone import Backbone, pretraining
from ..models.shared.cost import build_empty, check_fits
from ..runtime import Runtime, memory_available
from ..settings import Settings, TokenizerSettings
from .budget import Budget
from .lr_schedule import schedule_of
from .optim.base import OptimizerModule
from .scaling import (
    GPU_TOKENS,
    HURRIED,
    IN_A_HURRY,
    QUICK,
    SIZES,
    batch_tokens,
    first_context,
    rows_of,
    usual_context,
)
from .scaling import shape_of as shape_of

CONTEXT_SMALLEST = 8


@dataclass(frozen=True)
class TextSize:
    """What the plan needs to know of the text."""

    vocab_size: int
    tokenizer: TokenizerSettings
    """As resolved when the text was prepared."""
    train_tokens: int
    validation_tokens: int
    longest: int | None = None
    """Tokens of the longest side of a pair, where the text is pairs."""
    rows: int | None = None
    """Training pairs, where it is."""


@dataclass
class Plan:
    """A run, fully decided."""

    architecture: str
    model: Any
    """The architecture's Config."""
    settings: Settings
    budget: Budget
    seed: int
    steps: int | None
    """Total updates; None for wall clock."""
    task: str
    """What it is trained for: a file of tasks/."""
    reasons: dict[str, str] = field(default_factory=dict)


def make_plan(
    architecture: str,
    model_changes: Mapping[str, object],
    settings: Settings,
    budget: Budget,
    seed: int,
    text: TextSize,
    runtime: Runtime,
    size: str | None = None,
    task: str | None = None,
    processes: int = 1,
) -> Plan:
    """Fills in everything that was left open.

    Args:
        architecture: a file name in `models/`, or a path.
        model_changes: fields of its Config that were asked for.
        settings: what was asked for; None fields are filled.
        size: a name in SIZES or a number of parameters such as `12M`.
        task: a file of tasks/; what the architecture is pre-trained for by default.
        processes: that share each batch.

    Raises:
        SettingError: an impossible shape. ResourceError: it does not fit into memory.
        InputError: the text is too short for any window.
    """
    check_ranges(settings)
    reasons = dict(runtime.reasons)
    module = registry.module("scriven.models", architecture)
    asked = dict(model_changes)
    gpu = runtime.device.type != "cpu"
    seconds = budget.amount if budget.unit == "seconds" and not gpu else math.inf
    hurried = _choose_shape(module, asked, size, seconds, text, gpu, reasons)
    kind = task or pretraining(module)
    grows = not gpu and kind == "language" and getattr(module, "GROWS", False)
    _choose_context(asked, seconds, text, gpu, grows, reasons)
    passes = _passes(budget, text, gpu)
    if "dropout" not in asked:
        share = 0.1 if passes > 40 else 0.0
        asked["dropout"] = share
        reasons["model.dropout"] = f"about {passes:.0f} passes through the text" + (
            ": enough to learn it by heart" if share else ""
        )
    asked["vocab_size"] = text.vocab_size
    reasons["model.vocab_size"] = "from the tokenizer"
    model = config.replace(module.Config(), asked, "model")
    if text.longest is None:
        _check_window(module, model, kind, text)
    train = settings.train
    rows, why = _rows(model.context_length, budget, text, gpu)
    batch = train.batch_size or -(-rows // processes) * processes
    each = max(1, batch // processes)
    reasons["train.batch_size"] = "asked for" if train.batch_size else why
    usual = train.batch_size or max(
        1, GPU_TOKENS // model.context_length
    )  # a grown batch comes in portions
    micro = min(each, train.micro_batch_size or usual)
    check_fits(model, micro * model.context_length, memory_available(runtime.device))
    tokens = batch * tokens_by_row(kind, model, text.train_tokens, text.rows)
    steps = budget.total_steps(tokens, text.train_tokens)
    every = train.eval_interval
    if every is None and steps is not None:
        every = usual_looks(steps, tokens, text.validation_tokens)
        reasons["train.eval_interval"] = "looking costs at most a twentieth of the time"
    patience = train.patience
    if patience is None:
        patience = 8
        reasons["train.patience"] = "the validation loss is noisy, but not that noisy"
    lr = settings.optim.lr
    if lr is None:
        # measured for the default architecture and this shape alone
        lr = OptimizerModule(settings.optim.optimizer).default_lr(model.d_model, hurried and grows)
        reasons["optim.lr"] = f"for {settings.optim.optimizer} at width {model.d_model}"
    first = train.initial_context_length
    if first is not None and (kind != "language" or module.Model.carried is not Backbone.carried):
        raise SettingError(
            f"--train.initial_context_length={first} needs a model without recurrence, trained on "
            f"windows of a text: leave it out for {architecture}"
        )
    if first is None and grows and settings.runtime.compile is not True:
        first = first_context(model.context_length)
        if first:
            reasons["train.initial_context_length"] = (
                "short windows cost less, and teach what is near first"
            )
    compiled = settings.runtime.compile
    if compiled is None:
        compiled = gpu and (budget.unit != "seconds" or budget.amount >= 600)
        reasons["runtime.compile"] = (
            "pays back within this budget"
            if compiled
            else "starting at once beats faster steps here"
        )
    if compiled and module.Model.carried is not Backbone.carried:
        compiled = False
        reasons["runtime.compile"] = "off: what the model remembers changes its shape"
    if compiled and text.longest is not None:
        compiled = False
        reasons["runtime.compile"] = "off: batches of pairs have many shapes"
    filled = dataclasses.replace(
        settings,
        tokenizer=text.tokenizer,
        train=dataclasses.replace(
            train,
            batch_size=batch,
            micro_batch_size=micro,
            initial_context_length=first,
            eval_interval=every,
            patience=patience,
        ),
        optim=dataclasses.replace(settings.optim, lr=lr),
        runtime=dataclasses.replace(
            settings.runtime,
            device=str(runtime.device),
            dtype=str(runtime.dtype).removeprefix("torch."),  # type: ignore[arg-type]
            compile=compiled,
            threads=runtime.threads,
        ),
    )
    return Plan(architecture, model, filled, budget, seed, steps, kind, reasons)


def _check_window(module: ModuleType, model: Any, task: str, text: TextSize) -> None:
    """Refuses a text that is shorter than one training row."""
    empty: Any = build_empty(module, model, registry.module("scriven.tasks", task).Task)
    if text.train_tokens < empty.window:
        raise InputError(
            f"--model.context_length={model.context_length} is longer than the training text "
            f"({text.train_tokens:,} tokens): lower it or give more text"
        )


def tokens_by_row(task: str, model: Any, train_tokens: int, rows: int | None) -> int:
    """Tokens of the text that one training row reads, so that budgets in passes are true.

    Args:
        task: a file of tasks/.
        rows: of the training part, where the text is rows already.
    """
    if rows is not None:
        return max(1, round(train_tokens / rows))
    found: int = registry.module("scriven.tasks", task).Task.tokens_per_sample(model.context_length)
    return found


def usual_looks(steps: int, tokens_per_step: int, validation_tokens: int) -> int:
    """Updates between two evaluations, where nobody says."""
    # a forward pass is a third of a step's work; looking may cost a twentieth of the training
    affordable = -(-20 * validation_tokens // (3 * tokens_per_step))
    return min(steps, max(1, steps // 20, affordable))


def _choose_shape(
    module: ModuleType,
    asked: dict[str, object],
    size: str | None,
    seconds: float,
    text: TextSize,
    gpu: bool,
    reasons: dict[str, str],
) -> bool:
    """Layers, heads and width, unless asked for; whether they are those for a few seconds."""
    hurried = False
    if size is None:
        if gpu:
            name = "base" if text.train_tokens < 20_000_000 else "large"
            why = "a GPU has time for it"
        else:
            name = "medium" if 1500 <= seconds < math.inf else "small"
            why = "small models learn most per minute on a CPU"
        if text.train_tokens < 50_000:
            name, why = "tiny", "a short text"
        chosen = SIZES[name]
        own = asked.keys() & {"layers", "heads", "d_model"}
        if name != "tiny" and not own:
            hurried = seconds < HURRIED
            quickest = next((shape for below, shape in IN_A_HURRY if seconds < below), None)
            if quickest:
                chosen, why = quickest, "fewer layers learn more in so short a time"
    else:
        chosen, why = shape_of(size), "--size"
    fields = {field.name for field in dataclasses.fields(module.Config)}
    for key in ("layers", "heads", "d_model"):
        if key in fields and key not in asked:
            asked[key] = getattr(chosen, key)
            reasons[f"model.{key}"] = why
    return hurried


def _choose_context(
    asked: dict[str, object],
    seconds: float,
    text: TextSize,
    gpu: bool,
    grows: bool,
    reasons: dict[str, str],
) -> None:
    """Window length: longer helps when there is time to learn from it."""
    if "context_length" in asked:
        return
    wanted = usual_context(gpu, seconds, grows, text.train_tokens)
    if text.longest is not None:
        asked["context_length"] = max(
            CONTEXT_SMALLEST, min(wanted, 1 << (text.longest - 1).bit_length())
        )
        reasons["model.context_length"] = f"the longest side of a pair has {text.longest:,} tokens"
        return
    usual, room = wanted, max(CONTEXT_SMALLEST, min(text.train_tokens // 4, wanted))
    while wanted > room:
        wanted //= 2
    asked["context_length"] = max(CONTEXT_SMALLEST, wanted)
    reasons["model.context_length"] = (
        "the text is short"
        if wanted < usual
        else "a short budget"
        if seconds < QUICK
        else "the usual window"
    )


def _rows(context: int, budget: Budget, text: TextSize, gpu: bool) -> tuple[int, str]:
    """Sequences per update."""
    each = {"tokens": 1, "epochs": text.train_tokens}
    horizon = budget.amount * each[budget.unit] if budget.unit in each else None
    tokens = batch_tokens(gpu, horizon, text.train_tokens)
    why = "fills a GPU" if gpu else "many small updates learn fastest on a CPU"
    if tokens > GPU_TOKENS:
        why = "grows with the tokens of the budget"
    return rows_of(tokens, context, text.train_tokens), why


def _passes(budget: Budget, text: TextSize, gpu: bool) -> float:
    """Roughly how often the text is read."""
    if budget.unit == "epochs":
        return budget.amount
    pace = 1_000_000 if gpu else 25_000
    each = {"seconds": pace, "tokens": 1, "steps": 2048}[budget.unit]
    return budget.amount * each / max(1, text.train_tokens)


def check_ranges(settings: Settings) -> None:
    """Refuses impossible numbers before any work is done.

    Raises:
        SettingError: names the setting and its range.
    """
    optim, train, finetune = settings.optim, settings.train, settings.finetune
    limits: list[tuple[str, float | None, float, float]] = [
        ("optim.lr", optim.lr, 0, 100),
        ("optim.muon_lr", optim.muon_lr, 0, 100),
        ("optim.weight_decay", optim.weight_decay, 0, 100),
        ("optim.grad_clip", optim.grad_clip, 0, 1e9),
        ("optim.warmup_fraction", optim.warmup_fraction, 0, 1),
        ("optim.decay_fraction", optim.decay_fraction, 0, 1),
        ("optim.beta1", optim.beta1, 0, 0.999999),
        ("optim.beta2", optim.beta2, 0, 0.999999),
        ("train.batch_size", train.batch_size, 1, 1e7),
        ("train.micro_batch_size", train.micro_batch_size, 1, 1e7),
        ("train.initial_context_length", train.initial_context_length, 1, 1e9),
        ("train.eval_interval", train.eval_interval, 1, 1e12),
        ("train.save_interval", train.save_interval, 1, 1e12),
        ("train.save_seconds", train.save_seconds, 0.01, 1e9),
        ("train.log_seconds", train.log_seconds, 0, 1e9),
        ("train.sample_seconds", train.sample_seconds, 0, 1e9),
        ("train.keep_checkpoints", train.keep_checkpoints, 1, 1e6),
        ("train.patience", train.patience, 0, 1e9),
        ("train.max_nonfinite_steps", train.max_nonfinite_steps, 1, 1e9),
        ("runtime.distributed_timeout", settings.runtime.distributed_timeout, 0.1, 1e7),
        ("finetune.lora_rank", finetune.lora_rank, 0, 1e6),
        ("finetune.label_smoothing", finetune.label_smoothing, 0, 0.99),
        ("finetune.lm_loss_weight", finetune.lm_loss_weight, 0, 100),
        ("finetune.token_dropout", finetune.token_dropout, 0, 0.9),
        ("finetune.lm_score_weight", finetune.lm_score_weight, 0, 100),
    ]
    for name, value, least, most in limits:
        if value is not None and not least <= value <= most:
            raise SettingError(f"--{name}={value}: from {least:g} to {most:g}")
    OptimizerModule(optim.optimizer)
    schedule_of(optim.lr_schedule)
