"""A finished plan as plain data, and the command that does what was planned."""

import math
from dataclasses import dataclass
from typing import Any

from .. import config
from ..settings import Settings
from ..train import scaling_laws
from ..train.budget import Budget
from ..train.forecast import LAYOUTS, Forecast, fewest, memory, traffic
from ..train.job import Job
from ..train.machines import Machine
from ..train.optim.base import OptimizerModule


@dataclass(frozen=True)
class Asked:
    """What a plan was asked for."""

    architecture: str
    machine: Machine
    devices: int
    utilisation: float
    budget: Budget | None
    text: float | None
    """Tokens of the text."""
    settings: dict[str, object]


@dataclass(frozen=True)
class Planned:
    """What was found."""

    size: str
    model: Any
    settings: Settings
    job: Job
    forecast: Forecast | None
    """None: it does not fit."""
    budget: Budget
    """In tokens or steps."""
    tokens: float
    steps: int


def report(asked: Asked, planned: Planned) -> dict[str, Any]:
    """Everything, in plain values."""
    job, machine, devices = planned.job, asked.machine, asked.devices
    return {
        "size": planned.size,
        "architecture": asked.architecture,
        "model": config.to_dict(planned.model),
        "parameters": job.parameters,
        "parts": job.parts,
        "batch_size": job.rows,
        "batch_tokens": job.tokens,
        "optimizer": planned.settings.optim.optimizer,
        "rates": OptimizerModule(planned.settings.optim.optimizer).lrs(
            planned.settings.optim, job.d_model
        ),
        "tokens": planned.tokens,
        "tokens_per_parameter": planned.tokens / job.parameters,
        "passes": planned.tokens / asked.text if asked.text else None,
        "steps": planned.steps,
        "flops_per_token": job.flops,
        "flops_between": job.between,
        "flops": float(job.flops) * job.tokens * planned.steps,
        "device": vars(machine),
        "gpus": devices,
        "utilisation": asked.utilisation,
        "memory": {
            (each.name if devices > 1 else each.alone): memory(job, each, machine, devices, 1)
            for each in LAYOUTS
            if devices > 1 or each.parallel == "ddp"
        },
        **_speed(asked, planned),
        "idle": max(0, devices - job.rows),
        "command": command(asked, planned),
    }


def _speed(asked: Asked, planned: Planned) -> dict[str, Any]:
    """Layout, traffic, time and bottleneck; None where it does not fit."""
    job, machine, devices, found = planned.job, asked.machine, asked.devices, planned.forecast
    micro = found.micro if found else 1
    sent = {
        each.name: traffic(job, each, machine, devices, micro) * devices / job.tokens
        for each in LAYOUTS
        if devices > 1 and not each.checkpointing
    }
    if found is None:
        names = (
            "layout",
            "micro_batch_size",
            "seconds_of_an_update",
            "tokens_per_second",
            "seconds",
        )
        return {
            **dict.fromkeys(names),
            "bytes_sent_per_token": sent,
            "share_of_peak": None,
            "bottleneck": "memory",
            "gpus_needed": fewest(job, machine),
        }
    speed = job.tokens / found.step
    return {
        "layout": found.layout.name if devices > 1 else found.layout.alone,
        "micro_batch_size": micro,
        "bytes_sent_per_token": sent,
        "seconds_of_an_update": found.seconds,
        "tokens_per_second": speed,
        "seconds": found.step * planned.steps,
        "share_of_peak": job.flops * speed / (devices * machine.peak),
        "bottleneck": found.bottleneck,
        "gpus_needed": None,
    }


def command(asked: Asked, planned: Planned) -> str:
    """The training that was planned."""
    budget, job, found = planned.budget, planned.job, planned.forecast
    words = ["scriven train TEXT", f"--size {planned.size}"]
    if asked.architecture != "llama":
        words.append(f"--arch {asked.architecture}")
    if budget.unit == "steps":
        words.append(f"--budget {budget.amount:.10g}steps")
    else:
        unit, factor = ("G", 1e9) if budget.amount >= 1e9 else ("M", 1e6)
        words.append(f"--budget {budget.amount / factor:.10g}{unit}tokens")
    for name, value in asked.settings.items():
        own = name.replace("model.vocab_size", "tokenizer.vocab_size")  # a text brings its own
        words.append(f"--{own} {value}")
    if found is None:
        return " ".join(words)
    usual = max(1, scaling_laws.GPU_TOKENS // job.context_length)
    rows = math.ceil(job.rows / asked.devices)
    if "train.micro_batch_size" not in asked.settings and found.micro < min(usual, rows):
        words.append(f"--train.micro_batch_size {found.micro}")
    if found.layout.checkpointing:
        words.append("--runtime.activation_checkpointing true")
    if asked.devices == 1:
        return " ".join(words)
    nodes = math.ceil(asked.devices / asked.machine.per_node)
    each = min(asked.devices, asked.machine.per_node)
    where = "--standalone" if nodes == 1 else f"--nnodes {nodes} --rdzv-endpoint HOST:29500"
    words[0] = f"torchrun {where} --nproc-per-node {each} -m {words[0]}"
    return " ".join([*words, f"--runtime.parallel {found.layout.parallel}"])
