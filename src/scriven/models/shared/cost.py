"""What a model costs, before it is built: parameters, arithmetic and the memory of generation.

Counted on a task that is built on torch's `meta` device, whose tensors have shapes and take no
memory. Where weights and attention layers do not tell all, an architecture overrides
`mixing_flops`, `inactive_weights` or `state_size` (base.py).
"""

from types import ModuleType
from typing import Any

import torch
from torch import nn

from ...nn.attention import Attention
from ...nn.embeddings import AttentionMask

_PARTS = {
    ".embed.token": "embedding",
    ".embed.position": "positions",
    "norm.": "norms",
    ".attention.": "attention",
    ".cross.": "attention",
    ".mlp.": "feed-forward",
    ".blocks.": "recurrence",
}
"""Part of a parameter's name -> what it is; the first match wins."""


def parameters_by_part(task: nn.Module) -> dict[str, int]:
    """Parameters of embedding, positions, attention, feed-forward, norms and head."""
    parts: dict[str, int] = {}
    for name, weight in task.named_parameters():
        part = "head" if name.startswith("head") else "other"
        if part == "other":
            part = next((part for inside, part in _PARTS.items() if inside in name), part)
        parts[part] = parts.get(part, 0) + weight.numel()
    return parts


def flops_per_token(task: nn.Module) -> dict[str, int]:
    """Floating-point operations per token: forward, for a training step, and, as a part of forward,
    between positions.

    Two for each weight that multiplies (embedding look-ups do not, the head does), plus those of
    attention between positions; backward costs twice the forward (Kaplan et al. 2020, section 2.1).
    Attention is counted where a query may look, on average over a text of full length: half the
    context when causal, all of it when not. A kernel that computes the masked half too does more.
    For an encoder-decoder: per token of the target, with a source as long as the target.
    """
    backbone: Any = task.backbone
    config = backbone.config
    # 1. weights: a tied embedding multiplies as the head
    weights = config.vocab_size * config.d_model if config.tie_embeddings else 0
    for name, weight in task.named_parameters():
        if weight.dim() > 1 and "weight" in name.rpartition(".")[2] and ".embed." not in name:
            weights += weight.numel()
    weights -= backbone.inactive_weights(config)
    # 2. between positions
    between = backbone.mixing_flops(config)
    if between is None:
        between = attention_flops(backbone)
    forward = 2 * weights + between
    return {"forward": forward, "training": 3 * forward, "between": between}


def attention_flops(backbone: nn.Module) -> int:
    """FLOPs per token of q k^T and weights v in all attention layers."""
    config: Any = backbone.config
    length = config.context_length
    total = 0
    for name, layer in backbone.named_modules():
        if isinstance(layer, Attention):
            mask = AttentionMask(causal=False) if name.endswith(".cross") else layer.mask
            # two FLOPs for each of q k^T and weights v, per pair and number
            total += 4 * layer.q_size * attended_pairs(mask, length) // length
    return total


def attended_pairs(mask: AttentionMask, context_length: int) -> int:
    """How many (query, key) pairs of a text of `context_length` tokens are not masked."""
    if not mask.causal:
        assert mask.window is None, "no architecture has a window that looks ahead"
        return context_length * context_length
    # a triangle until the window is full, then `window` keys for each query
    window = min(mask.window or context_length, context_length)
    return window * (window + 1) // 2 + (context_length - window) * window


def cache_bytes(task: nn.Module, bytes_per_number: int = 4) -> int:
    """What generation keeps of one text at full length; 0 for a model that does not generate."""
    if not getattr(task, "is_generative", True):
        return 0
    backbone: Any = task.backbone
    config = backbone.config
    numbers = backbone.state_size(config)
    if numbers is not None:
        return int(numbers * bytes_per_number)
    numbers = 0
    for name, layer in backbone.named_modules():
        cross = name.endswith(".cross")
        if isinstance(layer, Attention) and (layer.mask.causal or cross):
            length = config.context_length if cross else backbone.max_position
            # keys and values
            numbers += 2 * layer.kv_heads * layer.head_dim * length
        if cross and name.rpartition(".")[0].endswith(".0"):
            numbers += config.d_model * config.context_length  # the encoder's output, kept once
    return int(numbers * bytes_per_number)


def build_empty(architecture: ModuleType, config: Any, task: Any) -> nn.Module:
    """The task on the `meta` device: exact shapes, no memory."""
    with torch.device("meta"):
        empty: nn.Module = task(architecture.Model(config))
    return empty
