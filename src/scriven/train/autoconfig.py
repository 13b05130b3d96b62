"""The plan of a run: every setting that was left open is filled in, each with its reason.

A plan is a pure function of data, budget and machine. Of the machine's speed it is told the FLOP/s,
and only where a wall-clock budget on a CPU leaves something to choose.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .. import config, registry
from ..errors import InputError, SettingError
from ..runtime import Runtime, available_memory
from ..settings import Settings, TokenizerSettings
from . import scaling_laws
from .optim.base import OptimizerModule
from .scaling_laws import GPU_TOKENS, SIZES, ModelShape, check_fits
from .schedule import Budget

SMALLEST_CONTEXT = 8

# Evaluations without improvement before early stopping: the validation loss is noisy, but not that
# noisy.
PATIENCE = 8


@dataclass(frozen=True)
class DatasetStats:
    """What a plan needs to know of the data."""

    vocab_size: int
    tokenizer: TokenizerSettings
    """As resolved when the data was prepared."""
    train_tokens: int
    validation_tokens: int
    longest: int | None = None
    """Tokens of the longest row, or side of a pair, where the data is rows."""
    rows: int | None = None
    """Training rows, where it is."""


@dataclass
class TrainPlan:
    """A run, fully decided."""

    architecture: str
    model: Any
    """The architecture's Config."""
    settings: Settings
    budget: Budget
    seed: int
    steps: int | None
    """Total optimizer steps; None for a wall-clock budget."""
    task: str
    """What it is trained for: a file of tasks/."""
    reasons: dict[str, str] = field(default_factory=dict)


def plan_pretraining(
    architecture: str,
    model_changes: Mapping[str, object],
    settings: Settings,
    budget: Budget,
    seed: int,
    data: DatasetStats,
    runtime: Runtime,
    size: str | None = None,
    task: str | None = None,
    world_size: int = 1,
    flops_per_second: float = scaling_laws.TYPICAL_FLOPS,
) -> TrainPlan:
    """Plans a pre-training; None fields of `settings` are filled.

    Args:
        architecture: a file name in `models/`, or a path.
        model_changes: fields of its Config that were asked for.
        size: a name in SIZES or a number of parameters such as `12M`.
        task: a file of tasks/; what the architecture is pre-trained for by default.
        world_size: processes that share each batch.
        flops_per_second: of training on this machine, all processes together; it matters to a
            wall-clock budget on a CPU only.

    Raises:
        SettingError: an impossible shape. ResourceError: it does not fit into memory.
        InputError: the text is too short for the context length.
    """
    module = registry.module("scriven.models", architecture)
    kind = task or module.Model.pretraining_task
    choices = Choices(settings, runtime)
    gpu = runtime.device.type != "cpu"
    wall_clock = budget.unit == "seconds" and not gpu
    flops = budget.amount * flops_per_second if wall_clock else math.inf
    stage = _Pretraining(module, kind, gpu, budget, flops, data, choices)
    # 1. the model: depth, heads, width, context length, dropout, vocabulary
    model, short_run = stage.model(model_changes, size)
    # 2. sequences per step, and how many of them at once
    batch = stage.batch_size(model.context_length, world_size)
    # a batch larger than the default of a GPU comes in micro-batches
    at_once = settings.train.batch_size or max(1, GPU_TOKENS // model.context_length)
    local = max(1, batch // world_size)
    micro = min(local, settings.train.micro_batch_size or at_once)
    choices.values["train.micro_batch_size"] = micro
    check_fits(model, micro * model.context_length, available_memory(runtime.device))
    # 3. evaluations and early stopping
    tokens = batch * tokens_per_row(kind, model, data.train_tokens, data.rows)
    steps = budget.total_steps(tokens, data.train_tokens)
    if steps is not None:
        interval = default_eval_interval(steps, tokens, data.validation_tokens)
        choices.fill("train.eval_interval", interval, "evaluation takes at most 5 % of training")
    choices.fill("train.patience", PATIENCE, "the validation loss is noisy, but not that noisy")
    # 4. learning rate, sequence-length warmup, torch.compile
    name = settings.optim.optimizer
    # the larger rate of short runs is measured for the default architecture and shape alone
    lr = OptimizerModule(name).default_lr(model.d_model, short_run and stage.warmup)
    choices.fill("optim.lr", lr, f"for {name} at width {model.d_model}")
    stage.warmup_and_compile(architecture, model.context_length)
    filled = choices.resolved(data.tokenizer)
    return TrainPlan(architecture, model, filled, budget, seed, steps, kind, choices.reasons)


class Choices:
    """Values of settings: those the user gave, and those filled in, each with its reason."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self.settings, self.reasons = settings, dict(runtime.reasons)
        self.values: dict[str, Any] = {
            "runtime.device": str(runtime.device),
            "runtime.dtype": str(runtime.dtype).removeprefix("torch."),
            "runtime.threads": runtime.threads,
        }
        """Setting -> value that replaces whatever the user gave."""

    def fill(self, name: str, value: Any, reason: str) -> Any:
        """A setting `section.key` as the user gave it, or else this value, for this reason."""
        section, _, key = name.partition(".")
        given = getattr(getattr(self.settings, section), key)
        if given is not None:
            return given
        self.values[name], self.reasons[name] = value, reason
        return value

    def resolved(self, tokenizer: TokenizerSettings) -> Settings:
        """The settings with every choice made."""
        sections: dict[str, Any] = {
            name: dataclasses.replace(getattr(self.settings, name), **values)
            for name, values in config.sections(self.values).items()
        }
        return dataclasses.replace(self.settings, tokenizer=tokenizer, **sections)


class _Pretraining:
    """The choices of a pre-training, which depend on each other through what is known of it."""

    def __init__(
        self,
        module: ModuleType,
        task: str,
        gpu: bool,
        budget: Budget,
        flops: float,
        data: DatasetStats,
        choices: Choices,
    ) -> None:
        self.module, self.task, self.gpu = module, task, gpu
        self.budget, self.data, self.choices = budget, data, choices
        # short sequences first are measured to help on a CPU, for architectures that say so
        self.warmup = not gpu and task == "language" and module.Model.grows_context
        # on a CPU a short wall-clock budget asks for a small model and short sequences
        self.flops = flops
        self.recurrent = module.Model.is_recurrent

    def model(self, model_changes: Mapping[str, object], size: str | None) -> tuple[Any, bool]:
        """The Config, and whether its shape is one for a very short budget."""
        fields, reasons = dict(model_changes), self.choices.reasons
        shape, why, short_run = self._shape(size, bool(fields.keys() & set(vars(SIZES["tiny"]))))
        known = {field.name for field in dataclasses.fields(self.module.Config)}
        for key, value in vars(shape).items():
            if key in known and key not in fields:
                fields[key], reasons[f"model.{key}"] = value, why
        if "context_length" not in fields:
            fields["context_length"], reasons["model.context_length"] = self._context_length()
        fields["vocab_size"] = self.data.vocab_size
        reasons["model.vocab_size"] = "from the tokenizer"
        model = config.replace(self.module.Config(), fields, "model")
        if "dropout" not in fields:
            text = max(1, self.data.train_tokens)
            tokens = self._tokens(model)
            epochs, per_token = tokens / text, block_parameters(model) / text
            if self.task == "language":
                rate = scaling_laws.default_dropout(tokens, epochs, per_token)
            else:  # not measured
                rate = 0.1 if epochs > 40 else 0.0
            model = dataclasses.replace(model, dropout=rate)
            reasons["model.dropout"] = (
                f"about {epochs:.0f} epochs, and {per_token:.2g} weights per token of the text"
            )
        # a text must hold one training row; a window holds the targets too, so it may be longer
        # than the context
        if self.data.longest is None:
            task = registry.module("scriven.tasks", self.task).Task
            if self.data.train_tokens < task.window_length(model.context_length):
                raise InputError(
                    f"--model.context_length={model.context_length} is longer than the training "
                    f"text ({self.data.train_tokens:,} tokens): lower it or give more text"
                )
        return model, short_run

    def _shape(self, size: str | None, asked: bool) -> tuple[ModelShape, str, bool]:
        """(shape, reason, whether it is one for a very short budget); `asked`: for a part of it."""
        tokens, short_run = self.data.train_tokens, False
        if size is not None:
            return scaling_laws.model_shape(size), "--size", False
        # a larger model would only memorise
        if tokens < 50_000:
            return SIZES["tiny"], "a short text", False
        if self.gpu:
            shape, why = SIZES["base" if tokens < 20_000_000 else "large"], "a GPU has time for it"
        else:
            long = scaling_laws.LONG_BUDGET <= self.flops < math.inf
            shape = SIZES["medium" if long else "small"]
            why = "small models learn most per minute on a CPU"
        # a person who chose a part of the shape keeps it whatever the budget
        if not asked:
            short_run = self.flops < scaling_laws.VERY_SHORT_BUDGET
            for below, smaller in scaling_laws.SHORT_BUDGET_SHAPES:
                if self.flops < below:
                    why = f"fewer layers learn more in {self.flops / 1e12:.1f} TFLOP"
                    return smaller, why, short_run
        return shape, why, short_run

    def _context_length(self) -> tuple[int, str]:
        """The context length, as long as data and budget make worth while, and the reason."""
        data = self.data
        usual = scaling_laws.default_context_length(
            self.gpu, self.flops, self.warmup, data.train_tokens
        )
        length, reason = usual, "the usual length"
        if data.longest is not None:
            # the next power of two that holds every pair
            length = min(length, 1 << (data.longest - 1).bit_length())
            reason = f"the longest side of a pair has {data.longest:,} tokens"
            return max(SMALLEST_CONTEXT, length), reason
        # at least four windows, so that steps differ
        while length > max(SMALLEST_CONTEXT, data.train_tokens // 4):
            length //= 2
        if length < usual:
            reason = "the text is short"
        elif self.flops < scaling_laws.SHORT_BUDGET:
            reason = "a short budget"
        return max(SMALLEST_CONTEXT, length), reason

    def _tokens(self, model: Any) -> float:
        """Roughly the tokens of the training, which decide about dropout."""
        amount, unit = self.budget.amount, self.budget.unit
        if unit == "seconds" and not self.gpu:
            # 6 per weight and token, and 2 in attention
            return self.flops / (8 * block_parameters(model))
        text, length = self.data.train_tokens, model.context_length
        step = scaling_laws.tokens_per_step(self.gpu, None, text)
        rows = scaling_laws.sequences_per_step(step, length, text)
        step = length * (self.choices.settings.train.batch_size or rows)
        per_unit: dict[str, float] = {
            "seconds": 1_000_000,
            "tokens": 1,
            "steps": step,
            "epochs": text,
        }
        return amount * per_unit[unit]

    def batch_size(self, context_length: int, world_size: int) -> int:
        """Sequences per step, a multiple of the processes."""
        text = self.data.train_tokens
        # a budget in seconds or steps does not say how many tokens there will be
        per_unit = {"tokens": 1, "epochs": text}.get(self.budget.unit)
        horizon = None if per_unit is None else self.budget.amount * per_unit
        tokens = scaling_laws.tokens_per_step(self.gpu, horizon, text)
        why = "fills a GPU" if self.gpu else "many small steps learn fastest on a CPU"
        if tokens > GPU_TOKENS:
            why = "grows with the tokens of the budget"
        rows = scaling_laws.sequences_per_step(tokens, context_length, text)
        rows = -(-rows // world_size) * world_size  # rounded up
        batch: int = self.choices.fill("train.batch_size", rows, why)
        return batch

    def warmup_and_compile(self, architecture: str, context_length: int) -> None:
        """Shorter sequences at the beginning, where they are asked for or known to help; and
        torch.compile, where it pays back its own time and shapes do not change."""
        choices, settings, budget = self.choices, self.choices.settings, self.budget
        asked = settings.train.initial_context_length
        if asked is not None and (self.task != "language" or self.recurrent):
            raise SettingError(
                f"--train.initial_context_length={asked} needs a model without recurrence, trained "
                f"on windows of a text: leave it out for {architecture}"
            )
        # torch.compile would compile once per length
        initial = scaling_laws.initial_context_length(context_length)
        if self.warmup and initial and settings.runtime.compile is not True:
            why = "short sequences cost less, and teach near context first"
            choices.fill("train.initial_context_length", initial, why)
        pays = self.gpu and (budget.unit != "seconds" or budget.amount >= 600)
        why = "pays back within this budget" if pays else "starting at once beats faster steps here"
        if choices.fill("runtime.compile", pays, why):
            off = "the recurrent state changes its shape" if self.recurrent else ""
            if not off and self.data.longest is not None:
                off = "batches of pairs have many shapes"
            if off:
                choices.values["runtime.compile"] = False
                choices.reasons["runtime.compile"] = f"off: {off}"


def block_parameters(model: Any) -> int:
    """Parameters in the blocks of a model, about."""
    return scaling_laws.ModelShape(model.total_layers, 1, model.d_model).block_parameters


def tokens_per_row(task: str, model: Any, train_tokens: int, rows: int | None) -> int:
    """Tokens of the text that one training row reads, so that a budget in epochs is true.

    Args:
        task: a file of tasks/.
        rows: of the training part, where the data is rows.
    """
    if rows is not None:
        return max(1, round(train_tokens / rows))
    return int(registry.module("scriven.tasks", task).Task.tokens_per_sample(model.context_length))


def default_eval_interval(steps: int, tokens_per_step: int, validation_tokens: int) -> int:
    """Steps between two evaluations: 5 % of the run, more if they took over 5 % of the time."""
    # a forward pass is a third of a step's arithmetic
    affordable = -(-20 * validation_tokens // (3 * tokens_per_step))
    return min(steps, max(1, steps // 20, affordable))
