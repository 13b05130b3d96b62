"""`scriven plan --from BASE`: what going on from a model would take. Its weights are not read."""

from collections.abc import Mapping
from typing import Any

import torch

from .. import config, registry
from ..errors import SettingError
from ..import_.base import is_run, open_foreign
from ..models.shared.cost import flops_per_token
from ..runs.folder import find_run
from ..runs.load import architecture_of
from ..runs.metadata import read_run_metadata
from ..runs.peft import add_adapters
from ..tasks.language import Language
from ..train.adapt_plan import LORA_PARAMETERS, LORA_TOKENS, SEQUENCE_LENGTH
from ..train.scaling_laws import activations_per_token, parse_token_count, tokens_per_step
from ..train.schedule import parse_budget
from .hardware import hardware_of

CHUNK_BYTES = 3 * 4 * (1 << 23)
"""Logits of a piece (nn/cross_entropy.py), their softmax and its gradient."""


def estimate_adaptation(
    base: str,
    *,
    budget: str | None = None,
    tokens: str | None = None,
    lora: int | None = None,
    arch: str | None = None,
    device: str | None = None,
    utilisation: float = 0.4,
    settings: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Estimates going on from a model with texts.

    Args:
        base: as `train` takes it. budget: as `train` takes it, 10m by default.
        tokens: of the text, as in `9B`, or its bytes, as in `40MB`; a budget in epochs needs it.
        lora: rank of the adapters, 0 for all weights; chosen as `train` does by default.
        arch, device, utilisation, settings: as of `planner.plan`.

    Raises:
        InputError: no such model. SettingError: something impossible.
    """
    # 1. the model, on the `meta` device
    name, model = _shape(base, arch)
    module, hardware = registry.module("scriven.models", name), hardware_of(device)
    with torch.device("meta"):
        task = Language(module.Model(model))
        parameters = sum(weight.numel() for weight in task.parameters())
        if lora is None:
            lora = 8 if not hardware.gpu and parameters > LORA_PARAMETERS else 0
        trained = parameters
        if lora:
            add_adapters(task, module, model, lora)
            trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
    # 2. arithmetic of a step: without gradients of the weights, backward costs as much as forward
    length = min(
        model.context_length,
        int(str((settings or {}).get("train.sequence_length", SEQUENCE_LENGTH))),
    )
    step = LORA_TOKENS if lora and not hardware.gpu else tokens_per_step(hardware.gpu, None, 1e9)
    step = max(1, step // length) * length
    with torch.device("meta"):
        short = config.replace(model, {"context_length": length}, "model")
        forward = flops_per_token(Language(module.Model(short)))["forward"]
    flops = forward * (2 if lora else 3)
    speed = hardware.peak * utilisation / flops  # tokens per second
    # 3. memory: frozen matrices in half precision, 16 bytes of everything that is trained
    kept = 2 if hardware.half else 4
    memory = {
        "weights": kept * parameters if lora else 4 * parameters,
        "gradients and optimizer": 16 * trained if lora else 12 * trained,
        "activations": (kept if lora else 4) * step * activations_per_token(short),
        "logits": CHUNK_BYTES if lora else 12 * step * model.vocab_size,
    }
    # 4. time and tokens
    spent = parse_budget(budget or "10m")
    if spent.unit == "epochs" and tokens is None:
        raise SettingError("a budget in epochs needs the size of the text: add --tokens 4MB")
    text = parse_token_count(tokens) if tokens is not None else 0.0
    units = {"seconds": speed, "steps": float(step), "tokens": 1.0, "epochs": text}
    total = spent.amount * units[spent.unit]
    return {
        "base": base,
        "architecture": name,
        "parameters": parameters,
        "trained_parameters": trained,
        "lora": lora,
        "sequence_length": length,
        "batch_tokens": step,
        "flops_per_token": flops,
        "device": vars(hardware).copy(),
        "memory": memory,
        "fits": sum(memory.values()) <= hardware.memory,
        "seconds_per_step": step / speed,
        "tokens_per_second": speed,
        "tokens": total,
        "epochs": total / text if text else None,
        "steps": max(1, round(total / step)),
        "seconds": total / speed,
        "command": f"scriven train TEXT --from {base} --lora {lora} --budget {budget or '10m'}",
    }


def _shape(base: str, arch: str | None) -> tuple[str, Any]:
    """The architecture and the Config of a model, from its small files alone."""
    if not is_run(base):
        foreign = open_foreign(base)
        return foreign.architecture, foreign.model_config
    metadata = read_run_metadata(find_run(base))
    name = architecture_of(metadata, arch)
    module = registry.module("scriven.models", name)
    return name, config.replace(module.Config(), metadata["model"], "model")
