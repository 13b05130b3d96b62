"""The model that generates text: a copy of a trained one whose weight matrices are laid out for
reading, in the precision that is asked for or that suits the machine."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError
from ..native.decoder import LazyDecoder
from ..nn.attention import Attention
from ..nn.block import MLP, Activation, gelu_tanh
from ..nn.lora import LoraLinear
from ..nn.quantized import INTEGERS, PRECISIONS, PackedLinear, check_precision
from ..runtime import Runtime
from ..tasks.base import BaseTask

FUSED: dict[Activation, tuple[str, str]] = {gelu_tanh: ("gelu", "tanh"), F.relu: ("relu", "")}
"""Activations that a packed matrix multiplication can apply to its result."""
MIN_HEAD_WEIGHTS = 1 << 18
"""Weights of an output matrix from which it is replaced; a small one keeps its precision."""
MIN_BFLOAT16_WEIGHTS = 4_000_000
"""Weights of a model from which bfloat16 is faster than float32: fewer stay in the CPU's caches."""


def prepare_for_inference(task: BaseTask, runtime: Runtime, dtype: str | None = None) -> BaseTask:
    """A copy of `task` for generating text, whose weight matrices are laid out for reading.

    All other weights are shared with it, so it must not be trained while the copy is used.

    Args:
        dtype: float32, bfloat16, int8 or int4: precision of the matrix multiplications on a CPU;
            None: bfloat16 if the runtime has it and the model is large, float32 otherwise.

    Raises:
        SettingError: this machine does not support `dtype`.
    """
    shared = {id(each): each for each in (*task.parameters(), *task.buffers())}
    model = copy.deepcopy(task, shared)
    linear, packed = _packed_linear(task, runtime, dtype), model.backbone.PACKED_LAYERS
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            is_head = name == "head" and child is model.head
            if not linear or not isinstance(child, nn.Linear):
                continue
            if child.weight.numel() >= MIN_HEAD_WEIGHTS if is_head else name in packed:
                # LoRA's low-rank update becomes a part of the matrix
                update = child.lora.delta_weight() if isinstance(child, LoraLinear) else 0
                activation = ("none", "")
                if isinstance(module, MLP) and name == "up" and linear.fuses:
                    activation = FUSED.get(module.activation, activation)
                if activation[0] != "none":
                    module.activation = nn.Identity()
                setattr(module, name, linear(child.weight + update, child.bias, activation))
        if isinstance(module, Attention):
            module.prepare_for_inference()
    # a tied output matrix is packed beside the embedding table, which stays
    table = model.backbone.embed.token.weight  # (V, C)
    own_head = model.backbone.has_head
    if linear and model.head is None and not own_head and table.numel() >= MIN_HEAD_WEIGHTS:
        model.head = linear(table)
    if runtime.device.type == "cpu":
        names = {kind: name for name, kind in PRECISIONS.items()}
        model.native = LazyDecoder(task, names[linear] if linear else "float32")
    return model


def _packed_linear(
    task: BaseTask, runtime: Runtime, dtype: str | None
) -> type[PackedLinear] | None:
    """The class that replaces linear layers; None: they stay."""
    if runtime.device.type != "cpu":
        if dtype in INTEGERS:
            raise SettingError(f"--dtype={dtype} is for CPUs: leave it away on a GPU")
        return None
    if dtype is not None:
        return check_precision(dtype) if dtype in PRECISIONS else None
    num_weights = sum(weight.numel() for weight in task.parameters())
    if runtime.dtype != torch.bfloat16 or num_weights < MIN_BFLOAT16_WEIGHTS:
        return None
    try:
        return check_precision("bfloat16")
    except SettingError:  # the default must not fail
        return None
