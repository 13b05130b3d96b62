"""Loss and gradients of a decoder by one call of compiled code (training.cpp), in the place of
PyTorch's forward and backward pass over a batch: in float32, with products in bfloat16 where the
run trains in it and the CPU multiplies pairs of them (AVX512_BF16 or AMX).

The gradients are those of PyTorch but for the last digits, and for dropout, which draws other
elements. Results depend on the number of threads and on nothing else.
"""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..data.batch import Batch
from ..models.base import Architecture
from ..nn.attention import Attention
from ..nn.block import ACTIVATIONS, MLP, Block, GatedMLP, pre_norm
from ..nn.cache import Cache
from ..nn.embeddings import (
    AttentionMask,
    Embedding,
    LearnedPositions,
    PositionEncoding,
    RotaryEmbedding,
    SinusoidalPositions,
)
from ..nn.norm import LayerNorm, RMSNorm
from ..tasks.base import BaseTask, Output
from ..tasks.language import Language
from .library import load_library, num_threads
from .weights import ACTIVATION_NAMES, UnsupportedError

LANES = 16
"""Widths have to be multiples of it: numbers of the widest vectors."""
CACHED_TOKENS = 2048
LAYER = (
    "attention_norm.weight", "attention_norm.bias", "qkv.weight", "qkv.bias", "query_norm.weight",
    "key_norm.weight", "out.weight", "out.bias", "mlp_norm.weight", "mlp_norm.bias",
    "inputs.weight", "inputs.bias", "down.weight", "down.bias",
)  # fmt: skip
"""The weights of a layer, in the order of training.cpp."""


class LayerWeights(ctypes.Structure):
    """These structures are those of training.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in LAYER]


class TrainedModel(ctypes.Structure):
    """The weights of a model, and its shape."""

    _fields_ = [
        ("layers", ctypes.POINTER(LayerWeights)), ("windows", ctypes.POINTER(ctypes.c_int)),
        *[(name, ctypes.c_void_p) for name in ("embedding", "positions", "norm", "norm_bias",
                                               "head", "cos", "sin")],
        *[(name, ctypes.c_int) for name in ("num_layers", "d_model", "heads", "kv_heads",
                                            "head_dim", "d_ff", "vocab_size", "context_length",
                                            "learns_positions", "is_gated", "activation")],
        ("eps", ctypes.c_float), ("scale", ctypes.c_float),
    ]  # fmt: skip


class TrainingBatch(ctypes.Structure):
    """A batch, and what is computed of it."""

    _fields_ = [
        ("tokens", ctypes.c_void_p), ("targets", ctypes.c_void_p),
        *[(name, ctypes.c_int) for name in ("rows", "length", "threads", "bfloat16")],
        ("dropout", ctypes.c_float), ("seed", ctypes.c_uint32),
        ("drops_embeddings", ctypes.c_int), ("drops_weights", ctypes.c_int),
        ("gradients", ctypes.c_void_p), ("loss", ctypes.c_double), ("correct", ctypes.c_int64),
    ]  # fmt: skip


class NativeTraining:
    """A task whose loss is computed by training.cpp together with the gradients of its weights."""

    def __init__(
        self, task: BaseTask, dtype: torch.dtype = torch.float32, *, wait: bool = False
    ) -> None:
        """
        Args:
            dtype: of the products.
            wait: until the library is compiled, where it has never been on this machine.

        Raises:
            UnsupportedError: the model has a part that training.cpp lacks, or there is no library.
        """
        self._task: Any = task
        check_supported(task)
        library = load_library(wait, "training")
        if library is None:
            raise UnsupportedError("no compiled library")
        self._dtype, self._model = dtype, _Model(task, library, dtype)

    def __call__(self, batch: Batch, state: Cache | None = None) -> Output:
        """As the task; PyTorch computes what training.cpp cannot."""
        plain = vars(batch).keys() - {"tokens", "targets", "text_tokens", "reset_state"}
        learns = torch.is_grad_enabled()
        if (
            state is not None
            or (learns and not self._task.training)
            or batch.tokens.size(1) > self._task.backbone.config.context_length
            or any(getattr(batch, name) is not None for name in plain)
        ):
            return self._task(batch, state)  # type: ignore[no-any-return]
        if self._model.has_moved():
            self._model = _Model(self._task, self._model.library, self._dtype)
        num_targets = (batch.targets >= 0).sum()
        if not learns:
            sums = [self._model.loss(part) for part in batch.split(_rows_at_once(batch))]
            loss, correct = map(torch.tensor, map(sum, zip(*sums, strict=True)))
            return Output(loss, num_targets, correct)
        loss, correct = _Loss.apply(  # type: ignore[no-untyped-call]
            self._model.step, batch, *self._model.weights
        )
        return Output(loss, num_targets, correct)


class _Model:
    """Where the weights of a task are, and the memory of a step."""

    def __init__(self, task: Any, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        backbone, head, self.library = task.backbone, task.head, library
        attention, mlp = backbone.blocks[0].attention, backbone.blocks[0].mlp
        embed, config = backbone.embed, backbone.config
        self._rounds, self._dropout = dtype == torch.bfloat16, config.dropout
        self._drops = embed.dropout > 0, attention.attention_dropout > 0
        layers = [_layer(block) for block in backbone.blocks]
        positions, learns_positions = _positions(embed.position)
        last = [embed.token.weight, positions, *_pair(backbone.norm), _weight(head)]
        learned = [last[0], positions if learns_positions else None, *last[2:]]
        given = [*(weight for layer in layers for weight in layer), *learned]
        self.weights: list[Tensor] = [weight for weight in given if weight is not None]
        """In the order of training.cpp."""
        self._addresses = [weight.data_ptr() for weight in self.weights]
        rotary = type(attention.position) is RotaryEmbedding
        tables = (attention.position.cos, attention.position.sin) if rotary else (None, None)
        self._kept = (*tables, positions)
        described = (LayerWeights * len(layers))(
            *[LayerWeights(*map(_address, layer)) for layer in layers]
        )
        windows = (ctypes.c_int * len(layers))(
            *[block.attention.mask.window or 0 for block in backbone.blocks]
        )
        model = TrainedModel(
            described, windows, *map(_address, (*last, *tables)), len(layers), config.d_model,
            attention.heads, attention.kv_heads, attention.head_dim, mlp.down.in_features,
            task.vocab_size, config.context_length, learns_positions, type(mlp) is GatedMLP,
            _activation(mlp), backbone.norm.eps,
            attention.head_dim**-0.5 if attention.scale is None else attention.scale,
        )  # fmt: skip
        self._memory = np.empty(0, np.float32)
        self._view: Callable[[], object] = lambda: None
        self._pointer = library.training_new(ctypes.byref(model))
        if not self._pointer:
            raise MemoryError("not enough memory for a training step")

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self.library.training_delete(self._pointer)

    def has_moved(self) -> bool:
        """Whether a weight was replaced; optimizers and checkpoints change them in place."""
        return self._addresses != [weight.data_ptr() for weight in self.weights]

    def step(self, batch: Batch) -> tuple[float, int, list[Tensor]]:
        """Loss, targets that were the likeliest token, and the gradient of each weight."""
        sizes = [weight.numel() for weight in self.weights]
        flat = self._gradient_memory(sum(sizes))
        loss, correct = self.loss(batch, flat)
        parts = zip(torch.split(flat, sizes), self.weights, strict=True)
        return loss, correct, [part.view_as(weight) for part, weight in parts]

    def _gradient_memory(self, size: int) -> Tensor:
        """Memory for gradients: that of an earlier step if they are no longer in use, as new pages
        take the system a tenth of a step."""
        if len(self._memory) != size or self._view() is not None:
            self._memory = np.empty(size, np.float32)
        view = self._memory[:]  # as long as it lives, a tensor has it
        self._view = weakref.ref(view)
        return torch.from_numpy(view)

    def loss(self, batch: Batch, gradients: Tensor | None = None) -> tuple[float, int]:
        """Loss, and targets that were the likeliest token; fills the gradients of all weights."""
        tokens, targets = batch.tokens.contiguous(), batch.targets.contiguous()
        drops = self._dropout > 0 and gradients is not None
        # from PyTorch's random state, so a resumed run draws what it would have drawn
        seed = int(torch.randint(1 << 32, ())) if drops else 0
        given = TrainingBatch(
            tokens.data_ptr(), targets.data_ptr(), *tokens.shape, num_threads(),
            self._rounds, self._dropout, seed, *self._drops, _address(gradients),
        )  # fmt: skip
        if self.library.training_step(self._pointer, ctypes.byref(given)):
            raise MemoryError("not enough memory for a training step")
        return given.loss, given.correct


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        step: Callable[[Batch], tuple[float, int, list[Tensor]]],
        batch: Batch,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        loss, correct, ctx.gradients = step(batch)
        found = torch.tensor(loss, dtype=weights[0].dtype), torch.tensor(correct)
        ctx.mark_non_differentiable(found[1])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, d_correct: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        torch._foreach_mul_(gradients, float(d_loss))
        return None, None, *gradients


def _rows_at_once(batch: Batch) -> int:
    """Rows whose hidden states stay in a cache while a loss is computed."""
    return max(num_threads(), CACHED_TOKENS // batch.tokens.size(1))


def check_supported(task: nn.Module) -> None:
    """Refuses a task that training.cpp cannot train.

    Raises:
        UnsupportedError: names the part that it lacks.
    """
    _require(type(task) is Language, type(task).__name__)
    assert isinstance(task, Language)
    backbone: Any = task.backbone
    changed = any(getattr(type(backbone), name) is not getattr(Architecture, name)
                  for name in ("forward", "logits", "aux_loss"))  # fmt: skip
    _require(backbone.kind == "decoder" and not changed, type(backbone).__module__)
    # 1. what is computed of all layers
    embed, norm, head = backbone.embed, backbone.norm, task.head
    _require(task.criterion is None and not task.label_smoothing, "this loss")
    _require(backbone.logit_softcap is None, "a limit of logits")
    _require(type(embed) is Embedding and embed.scale == 1 and embed.norm is None, "this embedding")
    _require(type(embed.position) in POSITIONS, "these positions")
    _require(type(norm) in (LayerNorm, RMSNorm), type(norm).__name__)
    _require(head is None or (type(head) is nn.Linear and head.bias is None), "this head")
    hooks = (each._forward_hooks or each._forward_pre_hooks for each in task.modules())
    _require(not any(hooks), "hooks")
    for weight in task.parameters():
        plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
        _require(plain and weight.is_contiguous() and weight.requires_grad, "these weights")
    # 2. the layers
    blocks: list[Any] = list(backbone.blocks)
    for block in blocks:
        _check_block(block, norm)
        _require(_shape(block) == _shape(blocks[0]), "layers of several kinds")
    attention, mlp = blocks[0].attention, blocks[0].mlp
    rates = {attention.dropout, mlp.dropout} | ({embed.dropout, attention.attention_dropout} - {0})
    _require(rates == {backbone.config.dropout}, "several rates of dropout")
    sizes = attention.qkv.in_features, mlp.down.in_features, attention.head_dim
    _require(all(size % LANES == 0 for size in sizes), "a width that is no multiple of 16")


POSITIONS = (type(None), LearnedPositions, SinusoidalPositions)
"""Those of embeddings."""


def _check_block(block: Any, last_norm: nn.Module) -> None:
    attention, mlp = block.attention, block.mlp
    _require(type(block) is Block and block.cross is None, type(block).__name__)
    _require(block.residual is pre_norm and type(attention) is Attention, "this block")
    mask = attention.mask
    _require(type(mask) is AttentionMask and mask.causal, "this attention mask")
    _require(attention.softcap is None, "a limit of scores")
    _require(type(mlp) in (MLP, GatedMLP) and mlp.activation in ACTIVATIONS.values(), "this MLP")
    position = attention.position
    if type(position) is RotaryEmbedding:
        _require(position.has_tables, "these positions")
        _require(position.rotated == attention.head_dim, "heads that are rotated in part")
        _require(position.rotated % (2 * LANES) == 0, "half a head that is no multiple of 16")
    else:
        _require(type(position) is PositionEncoding, "these positions")
    for linear in (attention.qkv, attention.out, _inputs(mlp), mlp.down):
        _require(type(linear) is nn.Linear, type(linear).__name__)
    kinds = [(block.attention_norm, type(last_norm)), (block.mlp_norm, type(last_norm))]
    if attention.query_norm is not None:
        _require(attention.norms_each_head, "a norm of all heads together")
        kinds += [(attention.query_norm, RMSNorm), (attention.key_norm, RMSNorm)]
    for norm, kind in kinds:
        _require(type(norm) is kind and not getattr(norm, "offset", 0), type(norm).__name__)
        _require(norm.eps == last_norm.eps, "norms with several eps")


def _shape(block: Any) -> tuple[object, ...]:
    """What all layers have to agree in."""
    attention, mlp, position = block.attention, block.mlp, block.attention.position
    return (
        attention.heads, attention.kv_heads, attention.head_dim, attention.scale,
        attention.query_norm is None, position if type(position) is RotaryEmbedding else None,
        attention.dropout, attention.attention_dropout, mlp.dropout,
        type(mlp), mlp.activation, mlp.down.in_features,
    )  # fmt: skip


def _activation(mlp: Any) -> int:
    """The number that simd.h has for it."""
    name = next(name for name, each in ACTIVATIONS.items() if each is mlp.activation)
    return ACTIVATION_NAMES.index(name)


def _inputs(mlp: Any) -> Any:
    return mlp.gate_up if type(mlp) is GatedMLP else mlp.up


def _layer(block: Any) -> list[Tensor | None]:
    """The weights of a layer, in the order of `LAYER`."""
    attention, mlp = block.attention, block.mlp
    return [
        *_pair(block.attention_norm), *_pair(attention.qkv), _weight(attention.query_norm),
        _weight(attention.key_norm), *_pair(attention.out), *_pair(block.mlp_norm),
        *_pair(_inputs(mlp)), *_pair(mlp.down),
    ]  # fmt: skip


def _positions(module: nn.Module | None) -> tuple[Tensor | None, bool]:
    """The table (context length, C) that is added to embeddings, and whether it is learned."""
    if isinstance(module, LearnedPositions):
        return module.weight, True
    return (module.table, False) if isinstance(module, SinusoidalPositions) else (None, False)


def _pair(module: Any) -> tuple[Tensor, Tensor | None]:
    return module.weight, getattr(module, "bias", None)


def _weight(module: Any) -> Tensor | None:
    return None if module is None else module.weight


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _require(supported: bool, part: str) -> None:
    if not supported:
        raise UnsupportedError(part)
