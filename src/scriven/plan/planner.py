"""`scriven plan`: from a size or a budget to shape, batch, memory, time, bottleneck and command."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import config, registry
from ..errors import SettingError
from ..format import model_size
from ..settings import Settings
from ..tokenizers.base import choose_vocab_size
from ..train import scaling_laws
from ..train.optim.base import OptimizerModule
from ..train.request import TrainRequest, read_overrides
from ..train.schedule import Budget, parse_budget
from .estimate import LAYOUTS, Estimate, bytes_sent, estimate, memory_by_part, min_devices
from .hardware import Hardware, hardware_of
from .model_stats import ModelStats, model_stats

# Fraction of the peak that good trainings reach: docs/scaling.md compares with published ones.
UTILISATION = 0.4
MOST_DEVICES = 1 << 20
MOST_ITERATIONS = 12


@dataclass(frozen=True)
class Planned:
    """A plan that agrees with itself."""

    size: str
    model: Any
    settings: Settings
    stats: ModelStats
    estimate: Estimate | None
    """None: it does not fit."""
    budget: Budget
    """In tokens or steps."""
    tokens: float
    steps: int


def plan(
    size: str | None = None,
    *,
    budget: str | None = None,
    gpus: int = 1,
    arch: str | None = None,
    tokens: str | None = None,
    device: str | None = None,
    peak: float | None = None,
    network: float | None = None,
    utilisation: float = UTILISATION,
    settings: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Estimates a training: nothing is built, nothing is read.

    Args:
        size: as `train` takes it; by default what suits the budget.
        budget: as `train` takes it; by default 20 tokens per parameter, or one epoch of `tokens`.
        gpus: number of devices.
        arch: the architecture, llama by default.
        tokens: of the text, as in `9B`, or its bytes, as in `40GB`.
        device: a100, h100, h200, cpu; by default what this machine has.
        peak: TFLOPs per second of one device, instead of the table's or the measured.
        network: gigabytes per second from one node to others, instead of the table's.
        utilisation: fraction of the peak that matmuls reach.
        settings: changes of settings, as in {"model.context_length": 2048}.

    Raises:
        SettingError: something impossible, or too little to plan from.
    """
    if not 1 <= gpus <= MOST_DEVICES:
        raise SettingError(f"--gpus={gpus}: from 1 to {MOST_DEVICES:,}")
    for name, value, most in (
        ("utilisation", utilisation, 1.0),
        ("peak", peak, 1e9),
        ("network", network, 1e9),
    ):
        if value is not None and not 0 < value <= most:
            raise SettingError(f"--{name}={value}: above 0, up to {most:g}")
    # a given peak needs no measurement
    hardware = hardware_of(device, measured=peak is None)
    if peak is not None:
        hardware = replace(hardware, peak=peak * 1e12, source="as given")
    if network is not None:
        hardware = replace(hardware, network=network * 1e9)
    text_tokens = scaling_laws.parse_token_count(tokens) if tokens else None
    planner = Planner(
        arch or "llama", hardware, gpus, utilisation, parse_budget(budget) if budget else None,
        text_tokens, dict(settings or {}), size,
    )  # fmt: skip
    return plan_as_dict(planner, planner.solve())


class Planner:
    """Vocabulary, context length and batch follow from the number of tokens, and the tokens, where
    the budget does not give them, from the parameters or the seconds: iterates until both agree."""

    def __init__(
        self,
        architecture: str,
        hardware: Hardware,
        devices: int,
        utilisation: float,
        budget: Budget | None,
        text_tokens: float | None,
        changes: dict[str, object],
        size: str | None,
    ) -> None:
        # 1. what is given: a size, a budget, a text, or nothing
        self.architecture, self.hardware, self.devices = architecture, hardware, devices
        self.utilisation, self.budget, self.text_tokens = utilisation, budget, text_tokens
        self.changes = changes
        if size is None and budget is None and text_tokens is None:
            self.budget = Budget("seconds", 600)  # the default of `train`
        self.unit = self.budget.unit if self.budget else None
        self.amount = self.budget.amount if self.budget else 0.0
        # 2. the settings and the fields of the model that are given
        self.default_model = registry.module("scriven.models", architecture).Config()
        changes = dict(changes)
        vocab_size = changes.pop("model.vocab_size", None)  # `train` takes it from the tokenizer
        overrides = read_overrides(TrainRequest(settings=changes))
        self.settings = overrides.apply(Settings())
        self.model_changes = overrides.sections.get("model", {})
        if vocab_size is not None:
            self.model_changes["vocab_size"] = vocab_size
        self.flops_per_second = hardware.peak * utilisation * devices
        # 3. where the iteration starts; a budget in seconds without a size determines both
        self.size_follows = size is None and self.unit == "seconds"
        self.size = size or self._initial_size()

    def solve(self) -> Planned:
        """Iterates to the finished plan."""
        tokens = scaling_laws.compute_optimal_tokens(
            scaling_laws.model_shape(self.size).block_parameters
        )
        for _ in range(MOST_ITERATIONS):
            tokens = _three_digits(tokens)
            # 1. the model and its speed, for this number of tokens
            model, stats, result = self._estimate(tokens)
            # 2. the number of tokens that such a model should or can read
            new_tokens = _three_digits(self._tokens(stats, result))
            ratio = new_tokens / scaling_laws.compute_optimal_tokens(stats.parameters)
            # 3. too many for the model: a larger one; too few: a smaller one
            if self.size_follows and not 0.95 < ratio < 1.05:
                # in a given time, tokens per parameter fall with the square of the parameters
                parameters = scaling_laws.model_shape(self.size).block_parameters * ratio**0.5
                self.size = model_size(max(1e3, parameters))
            elif new_tokens == tokens:
                break
            tokens = new_tokens
        budget = Budget("tokens", tokens)
        if self.budget is not None and self.unit == "steps":
            budget = self.budget
        steps = budget.total_steps(stats.batch_tokens, 1)
        assert steps is not None
        return Planned(self.size, model, self.settings, stats, result, budget, tokens, steps)

    def _initial_size(self) -> str:
        """The size for a budget: 6 FLOPs per parameter and token, and 20 tokens per parameter
        (Hoffmann et al. 2022)."""
        ratio = scaling_laws.TOKENS_PER_PARAMETER
        if self.unit == "steps":
            raise SettingError("a budget in steps says nothing of a size: add --size, as in 12M")
        if self.unit == "seconds":
            parameters = math.sqrt(self.flops_per_second * self.amount / (6 * ratio))
        else:
            parameters = self._given_tokens() / ratio
        return model_size(max(1e3, parameters))

    def _given_tokens(self) -> float:
        """Tokens of a training whose budget gives them."""
        if self.unit == "tokens":
            return self.amount
        if self.text_tokens is None:
            raise SettingError("a budget in epochs needs the size of the text: add --tokens 40GB")
        return self.text_tokens * (self.amount if self.budget else 1)

    def _estimate(self, tokens: float) -> tuple[Any, ModelStats, Estimate | None]:
        """Model, statistics and estimate for a training of so many tokens."""
        text, hardware = self.text_tokens or tokens, self.hardware
        flops = self.amount * self.flops_per_second if self.unit == "seconds" else math.inf
        defaults: dict[str, object] = {
            "vocab_size": choose_vocab_size(int(text * scaling_laws.BYTES_PER_TOKEN)),
            "context_length": scaling_laws.default_context_length(
                hardware.gpu, flops, not hardware.gpu, int(text)
            ),
            **vars(scaling_laws.model_shape(self.size)),
        }
        # an architecture may lack a field, as the rnn has no heads
        known = {
            name: value for name, value in defaults.items() if hasattr(self.default_model, name)
        }
        model = config.replace(self.default_model, {**known, **self.model_changes}, "model")
        # `train` does not know the tokens of a budget in steps when it chooses the batch
        horizon = None if self.unit == "steps" else tokens
        step = scaling_laws.tokens_per_step(hardware.gpu, horizon, text)
        rows = self.settings.train.batch_size or scaling_laws.sequences_per_step(
            step, model.context_length, text
        )
        optimizer = self.settings.optim.optimizer
        stats = model_stats(self.architecture, model, optimizer, hardware.gpu)
        stats = replace(stats, batch_size=rows)
        return model, stats, estimate(stats, hardware, self.devices, self.utilisation)

    def _tokens(self, stats: ModelStats, result: Estimate | None) -> float:
        """Tokens of the training."""
        if self.unit == "steps":
            return self.amount * stats.batch_tokens
        if self.unit == "seconds":
            if result is None:  # it fits nowhere: what the FLOPs alone would allow
                return self.amount * self.flops_per_second / stats.flops
            return self.amount / result.step_seconds * stats.batch_tokens
        if self.budget is not None or self.text_tokens is not None:
            return self._given_tokens()
        return scaling_laws.compute_optimal_tokens(stats.parameters)


def _three_digits(tokens: float) -> float:
    """Rounded, so that a command can name it."""
    # 12,345,678 -> 12,300,000
    digits = 2 - math.floor(math.log10(max(1.0, tokens)))
    return float(round(max(1.0, tokens), digits))


def plan_as_dict(planner: Planner, planned: Planned) -> dict[str, Any]:
    """The plan in plain values, as `--json` prints it."""
    stats, hardware, devices = planned.stats, planner.hardware, planner.devices
    optim = planned.settings.optim
    return {
        "size": planned.size,
        "architecture": planner.architecture,
        "model": config.to_dict(planned.model),
        "parameters": stats.parameters,
        "parts": stats.parameters_by_part,
        "batch_size": stats.batch_size,
        "batch_tokens": stats.batch_tokens,
        "optimizer": optim.optimizer,
        "learning_rates": OptimizerModule(optim.optimizer).lrs(optim, stats.d_model),
        "tokens": planned.tokens,
        "tokens_per_parameter": planned.tokens / stats.parameters,
        "epochs": planned.tokens / planner.text_tokens if planner.text_tokens else None,
        "steps": planned.steps,
        "flops_per_token": stats.flops,
        "attention_flops_per_token": stats.attention_flops,
        "flops": float(stats.flops) * stats.batch_tokens * planned.steps,
        "device": vars(hardware).copy(),
        "gpus": devices,
        "utilisation": planner.utilisation,
        "memory": {
            each.name(devices): memory_by_part(stats, each, hardware, devices, 1)
            for each in LAYOUTS
            if devices > 1 or each.parallel == "ddp"
        },
        **_speed(planner, planned),
        "idle_gpus": max(0, devices - stats.batch_size),
        "command": command(planner, planned),
    }


def _speed(planner: Planner, planned: Planned) -> dict[str, Any]:
    """Layout, communication, time and bottleneck; None where it does not fit."""
    stats, hardware, devices = planned.stats, planner.hardware, planner.devices
    result = planned.estimate
    micro = result.micro_batch_size if result else 1
    sent = {
        each.name(devices): bytes_sent(stats, each, hardware, devices, micro)
        * devices
        / stats.batch_tokens
        for each in LAYOUTS
        if devices > 1 and not each.checkpointing
    }
    speed = stats.batch_tokens / result.step_seconds if result else 0.0
    return {
        "layout": result.layout.name(devices) if result else None,
        "micro_batch_size": micro if result else None,
        "bytes_sent_per_token": sent,
        "seconds_per_step": result.seconds if result else None,
        "tokens_per_second": speed if result else None,
        "seconds": result.step_seconds * planned.steps if result else None,
        "mfu": stats.flops * speed / (devices * hardware.peak) if result else None,
        "bottleneck": result.bottleneck if result else "memory",
        "min_gpus": None if result else min_devices(stats, hardware),
    }


def command(planner: Planner, planned: Planned) -> str:
    """The command that trains what was planned."""
    budget, stats, result = planned.budget, planned.stats, planned.estimate
    words = ["scriven train TEXT", f"--size {planned.size}"]
    if planner.architecture != "llama":
        words.append(f"--arch {planner.architecture}")
    if budget.unit == "steps":
        words.append(f"--budget {budget.amount:.10g}steps")
    else:
        unit, factor = ("G", 1e9) if budget.amount >= 1e9 else ("M", 1e6)
        words.append(f"--budget {budget.amount / factor:.10g}{unit}tokens")
    for name, value in planner.changes.items():
        # the vocabulary of a real text comes from its tokenizer
        flag = name.replace("model.vocab_size", "tokenizer.vocab_size")
        words.append(f"--{flag} {value}")
    # it does not fit, so there is no layout to choose
    if result is None:
        return " ".join(words)
    # `train` chooses this micro-batch itself, unless a smaller one has to fit
    default_micro = max(1, scaling_laws.GPU_TOKENS // stats.context_length)
    local_batch = math.ceil(stats.batch_size / planner.devices)
    if "train.micro_batch_size" not in planner.changes:
        if result.micro_batch_size < min(default_micro, local_batch):
            words.append(f"--train.micro_batch_size {result.micro_batch_size}")
    if result.layout.checkpointing:
        words.append("--runtime.activation_checkpointing true")
    if planner.devices == 1:
        return " ".join(words)
    # several devices are started by torchrun
    nodes = math.ceil(planner.devices / planner.hardware.per_node)
    per_node = min(planner.devices, planner.hardware.per_node)
    where = "--standalone" if nodes == 1 else f"--nnodes {nodes} --rdzv-endpoint HOST:29500"
    words[0] = f"torchrun {where} --nproc-per-node {per_node} -m {words[0]}"
    return " ".join([*words, f"--runtime.parallel {result.layout.parallel}"])
