"""A trained task made ready for writing: a twin of it whose weights are laid out to be read fast.

Everything else is shared with the task. Knows no architecture.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.lora import LoraLinear
from ..nn.mlp import MLP, Activation, gelu_tanh
from ..nn.quantized import PRECISIONS, PackedLinear, check_precision
from ..runtime import Runtime
from ..tasks.base import BaseTask

LAYERS = ("qkv", "out", "gate_up", "up", "down", "key")
"""Names of the layers that are laid out anew: the matrices of attention and feed-forward."""
FUSED: dict[Activation, tuple[str, str]] = {gelu_tanh: ("gelu", "tanh"), F.relu: ("relu", "")}
"""Activations that a product may end with."""
WORTH_IT = 1 << 18
"""Weights of an output matrix from which it is laid out anew; a small one keeps all its digits."""
LARGE = 4_000_000
"""Weights of a model from which bfloat16 is faster than float32: fewer stay in the caches."""


def ready(task: BaseTask, runtime: Runtime, asked: str | None = None) -> BaseTask:
    """A twin of `task` for writing.

    Args:
        task: it is not changed, and must not be trained while the twin is used.
        runtime: its machine.
        asked: float32, bfloat16 or int8, of the products on a processor; None: bfloat16 where the
            runtime has it and the model is large, float32 otherwise.

    Raises:
        SettingError: this machine cannot.
    """
    shared = {id(each): each for each in (*task.parameters(), *task.buffers())}
    twin = copy.deepcopy(task, shared)
    layer = _layer(task, runtime, asked)
    for module in list(twin.modules()):
        for name, child in list(module.named_children()):
            large = name == "head" and child is twin.head
            if layer and isinstance(child, nn.Linear) and (large or name in LAYERS):
                if large and child.weight.numel() < WORTH_IT:
                    continue
                added = child.lora.full() if isinstance(child, LoraLinear) else 0
                after = ("none", "")
                if isinstance(module, MLP) and name == "up" and layer.fuses:
                    after = FUSED.get(module.activation, after)
                if after[0] != "none":
                    module.activation = nn.Identity()
                setattr(module, name, layer(child.weight + added, child.bias, after))
        if isinstance(module, Attention):
            module.prepare_for_inference()
    table = twin.backbone.embed.token.weight
    if layer and twin.head is None and table.numel() >= WORTH_IT:
        twin.head = layer(table)
    return twin


def _layer(task: BaseTask, runtime: Runtime, asked: str | None) -> type[PackedLinear] | None:
    """What takes the place of linear layers; None: they stay."""
    if runtime.device.type != "cpu":
        if asked == "int8":
            raise SettingError("--dtype=int8 is for processors: leave it away on a GPU")
        return None
    if asked is not None:
        return check_precision(asked) if asked in PRECISIONS else None
    size = sum(weight.numel() for weight in task.parameters())
    if runtime.dtype != torch.bfloat16 or size < LARGE:
        return None
    try:
        return check_precision("bfloat16")
    except SettingError:  # nobody asked for it
        return None
