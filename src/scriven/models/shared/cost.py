"""What a model costs, before it is built: parameters, arithmetic and memory."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ...errors import ResourceError


def parameters_by_part(task: nn.Module) -> dict[str, int]:
    """Parameters of embedding, positions, attention, feed-forward, norms and head.

    Works on a model made on torch's `meta` device, which allocates nothing.
    """
    parts: dict[str, int] = {}
    for name, weight in task.named_parameters():
        parts[_part(name)] = parts.get(_part(name), 0) + weight.numel()
    return parts


def _part(name: str) -> str:
    for end, part in (
        ("norm.", "norms"),
        (".attention.", "attention"),
        (".cross.", "attention"),
        (".mlp.", "feed-forward"),
        ("embed.token", "embedding"),
        ("embed.position", "positions"),
    ):
        if end in name:
            return part
    return "head" if name.startswith("head") else "other"


def flops_per_token(config: Any, parts: Mapping[str, int]) -> dict[str, int]:
    """Floating-point operations per token, forward and for a training step.

    Two per weight that multiplies (embedding look-ups do not, the head does), plus attention to
    half the context on average; backward costs twice the forward (Kaplan et al. 2020, section 2.1).
    """
    head = parts.get("head", 0) or config.vocabulary * config.width
    weights = parts.get("attention", 0) + parts.get("feed-forward", 0) + head
    size = getattr(config, "head_width", None) or config.width // config.heads
    attention = 2 * config.layers * config.heads * size * config.context
    forward = 2 * weights + attention
    return {"forward": forward, "training": 3 * forward}


def cache_bytes(config: Any, bytes_per_number: int = 4) -> int:
    """Key/value cache of one row at full context."""
    size = getattr(config, "head_width", None) or config.width // config.heads
    heads = getattr(config, "kv_heads", None) or config.heads
    return int(2 * config.layers * heads * size * config.context * bytes_per_number)


def training_bytes(config: Any, parameters: int, tokens: int) -> int:
    """Rough peak memory of training: weights, gradients, two moments, and what backward needs.

    Args:
        config: of the model.
        parameters: their number.
        tokens: in one micro-batch.
    """
    per_token = config.layers * (24 * config.width + 3 * config.heads * min(config.context, 512))
    logits = 3 * config.vocabulary
    return int(16 * parameters + 4 * tokens * (per_token + logits))


def check_fits(config: Any, tokens: int, available: int | None) -> None:
    """Refuses a model that cannot fit, before anything is allocated.

    Raises:
        ResourceError: names what is needed, what is there, and the settings to lower.
    """
    heads = config.heads * (getattr(config, "head_width", None) or 0)
    hidden = getattr(config, "hidden", None) or 3 * config.width
    each = 2 * config.width * (max(config.width, heads) + hidden)
    least = config.vocabulary * config.width + config.layers * each
    need = training_bytes(config, least, tokens)
    if available is not None and need > available:
        raise ResourceError(
            f"this model needs about {gigabytes(need)} to train and {gigabytes(available)} are "
            "free: lower --model.width, --model.layers or --train.micro_batch"
        )


def gigabytes(size: float) -> str:
    """`3.4 GB`, `12 MB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def build_empty(architecture: ModuleType, config: Any, task: Any) -> nn.Module:
    """The task on the `meta` device: exact shapes, no memory."""
    with torch.device("meta"):
        made: nn.Module = task(architecture.Model(config))
    return made
