"""What a model costs, before it is built: parameters, arithmetic and memory.

Counted on a task made on torch's `meta` device, whose tensors have shapes and take no memory. Where
weights and attention layers do not tell all, the file of an architecture has
    mixing(config)      forward FLOPs per token beyond one product with each weight
    remembered(config)  numbers kept of one text while going on with it
"""

from types import ModuleType
from typing import Any

import torch
from torch import nn

from ...errors import ResourceError
from ...format import format_bytes
from ...nn.attention import Attention
from ...nn.mask import AttentionMask

KEPT = 24
"""Numbers that backward needs of a token in a layer, in widths: inputs of norms and of products."""


def parameters_by_part(task: nn.Module) -> dict[str, int]:
    """Parameters of embedding, positions, attention, feed-forward, norms and head."""
    parts: dict[str, int] = {}
    for name, weight in task.named_parameters():
        parts[_part(name)] = parts.get(_part(name), 0) + weight.numel()
    return parts


def _part(name: str) -> str:
    for end, part in (
        ("head", "head"),
        ("norm.", "norms"),
        (".attention.", "attention"),
        (".cross.", "attention"),
        (".mlp.", "feed-forward"),
        ("embed.token", "embedding"),
        ("embed.position", "positions"),
    ):
        if name.startswith(end) or (end != "head" and end in name):
            return part
    return "recurrence" if "blocks." in name else "other"


def flops_per_token(architecture: ModuleType, task: nn.Module) -> dict[str, int]:
    """Floating-point operations per token: forward, for a training step, and, as a part of forward,
    between positions.

    Two for each weight that multiplies (embedding look-ups do not, the head does), plus those of
    attention between positions; backward costs twice the forward (Kaplan et al. 2020, section 2.1).
    Attention is counted where a query may look, on average over a text of full length: half the
    context when causal, all of it when not. A kernel that computes the hidden half too does more.
    For an encoder-decoder: per token of the target, with a source as long as the target.

    Args:
        architecture: the file of models/.
        task: of that architecture.
    """
    backbone: Any = task.backbone
    config = backbone.config
    weights = config.vocab_size * config.d_model if config.tie_embeddings else 0
    for name, weight in task.named_parameters():
        if weight.dim() > 1 and "weight" in name.rpartition(".")[2] and ".embed." not in name:
            weights += weight.numel()
    mixing = getattr(architecture, "mixing", None)
    between = mixing(config) if mixing else _between(backbone)
    forward = 2 * weights + between
    return {"forward": forward, "training": 3 * forward, "between": between}


def _between(backbone: nn.Module) -> int:
    """FLOPs per token of all attention layers: a query meets a key, and takes of its value."""
    config: Any = backbone.config
    total = 0
    for name, layer in backbone.named_modules():
        if isinstance(layer, Attention):
            rule = AttentionMask(causal=False) if name.endswith(".cross") else layer.mask
            total += 4 * layer.q_size * pairs(rule, config.context_length) // config.context_length
    return total


def pairs(rule: AttentionMask, context_length: int) -> int:
    """How many (query, key) pairs see each other in a text of `context` tokens."""
    if not rule.causal:
        assert rule.window is None, "no architecture has a band that looks ahead"
        return context_length * context_length
    band = min(rule.window or context_length, context_length)
    return band * (band + 1) // 2 + (context_length - band) * band


def cache_bytes(architecture: ModuleType, task: nn.Module, bytes_per_number: int = 4) -> int:
    """What generation keeps of one text at full length; 0 for a model that does not write."""
    if not getattr(task, "is_generative", True):
        return 0
    backbone: Any = task.backbone
    config = backbone.config
    remembered = getattr(architecture, "remembered", None)
    if remembered:
        return int(remembered(config) * bytes_per_number)
    numbers = 0
    for name, layer in backbone.named_modules():
        if isinstance(layer, Attention) and (layer.mask.causal or name.endswith(".cross")):
            length = config.context_length if name.endswith(".cross") else backbone.max_position
            numbers += 2 * layer.kv_heads * layer.head_dim * length
        if name.endswith(".cross") and name.rpartition(".")[0].endswith(".0"):
            numbers += config.d_model * config.context_length  # what the encoder made of the source
    return int(numbers * bytes_per_number)


def training_bytes(config: Any, parameters: int, tokens: int) -> int:
    """Rough peak memory of training: weights, gradients, two moments, and what backward needs.

    Args:
        config: of the model.
        parameters: their number.
        tokens: in one micro-batch.
    """
    logits = 3 * config.vocab_size
    return int(16 * parameters + 4 * tokens * (kept_per_token(config) + logits))


def kept_per_token(config: Any, fused: bool = False) -> int:
    """Numbers that backward needs of one token, without its logits.

    Args:
        config: of the model.
        fused: whether attention is one kernel that keeps no weights between positions.
    """
    seen = 0 if fused else min(config.context_length + getattr(config, "trained_memory", 0), 512)
    per_layer = KEPT * config.d_model + 3 * getattr(config, "heads", 0) * seen
    return layers_of(config) * int(per_layer)


def layers_of(config: Any) -> int:
    """Of the decoder and, where there is one, of the encoder."""
    if not hasattr(config, "encoder_layers"):
        return int(config.layers)
    return int(config.layers + (config.encoder_layers or config.layers))


def check_fits(config: Any, tokens: int, available: int | None) -> None:
    """Refuses a model that cannot fit, before anything is allocated.

    Raises:
        ResourceError: names what is needed, what is there, and the settings to lower.
    """
    heads = getattr(config, "heads", 0) * (getattr(config, "head_dim", None) or 0)
    d_ff = getattr(config, "d_ff", None) or 3 * config.d_model
    each = 2 * config.d_model * (max(config.d_model, heads) + d_ff)
    least = config.vocab_size * config.d_model + layers_of(config) * each
    need = training_bytes(config, least, tokens)
    if available is not None and need > available:
        raise ResourceError(
            f"this model needs about {format_bytes(need)} to train and {format_bytes(available)} "
            "are free: lower --model.d_model, --model.layers or --train.micro_batch_size"
        )


def build_empty(architecture: ModuleType, config: Any, task: Any) -> nn.Module:
    """The task on the `meta` device: exact shapes, no memory."""
    with torch.device("meta"):
        made: nn.Module = task(architecture.Model(config))
    return made
