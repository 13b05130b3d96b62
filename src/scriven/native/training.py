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
from ..models.llama import Model as Llama
from ..nn.attention import Attention
from ..nn.block import ACTIVATIONS, Block, GatedMLP, pre_norm
from ..nn.cache import Cache
from ..nn.embeddings import Embedding, RotaryEmbedding
from ..nn.norm import RMSNorm
from ..tasks.base import BaseTask, Output
from ..tasks.language import Language
from .library import load_library
from .weights import UnsupportedError

LANES = 16
"""Widths have to be multiples of it: numbers of the widest vectors."""
CACHED_TOKENS = 2048
LAYER = ("attention_norm", "qkv", "query_norm", "key_norm", "out", "mlp_norm", "gate_up", "down")
"""The weights of a layer, in the order of training.cpp."""


class LayerWeights(ctypes.Structure):
    """These structures are those of training.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in LAYER]


class TrainedModel(ctypes.Structure):
    """The weights of a model, and its shape."""

    _fields_ = [
        ("layers", ctypes.POINTER(LayerWeights)),
        *[(name, ctypes.c_void_p) for name in ("embedding", "norm", "head", "cos", "sin")],
        *[(name, ctypes.c_int) for name in ("num_layers", "d_model", "heads", "kv_heads",
                                            "head_dim", "d_ff", "vocab_size")],
        ("eps", ctypes.c_float), ("scale", ctypes.c_float),
    ]  # fmt: skip


class TrainingBatch(ctypes.Structure):
    """A batch, and what is computed of it."""

    _fields_ = [
        ("tokens", ctypes.c_void_p), ("targets", ctypes.c_void_p),
        *[(name, ctypes.c_int) for name in ("rows", "length", "threads", "bfloat16")],
        ("dropout", ctypes.c_float), ("seed", ctypes.c_uint32),
        ("gradients", ctypes.c_void_p), ("loss", ctypes.c_double), ("correct", ctypes.c_int64),
    ]  # fmt: skip


class NativeTraining:
    """A task whose loss is computed by training.cpp together with the gradients of its weights."""

    def __init__(
        self, task: BaseTask, dtype: torch.dtype = torch.float32, *, wait: bool = False
    ) -> None:
        """
        Args:
            dtype: of the products that gradients follow from; losses alone are in float32.
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
        self._rounds, self._dropout = dtype == torch.bfloat16, backbone.config.dropout
        layers = [_layer(block) for block in backbone.blocks]
        embedding, attention = backbone.embed.token.weight, backbone.blocks[0].attention
        last = [embedding, backbone.norm.weight] + ([] if head is None else [head.weight])
        of_layers = [weight for layer in layers for weight in layer.values() if weight is not None]
        self.weights: list[Tensor] = [*of_layers, *last]
        """In the order of training.cpp."""
        self._addresses = [weight.data_ptr() for weight in self.weights]
        tables = self._kept = (attention.position.cos, attention.position.sin)
        described = (LayerWeights * len(layers))(
            *[LayerWeights(**{name: _address(layer[name]) for name in LAYER}) for layer in layers]
        )
        model = TrainedModel(
            described, *[_address(weight) for weight in (*last, None)[:3]],
            *[_address(table) for table in tables], len(layers), backbone.config.d_model,
            attention.heads, attention.kv_heads, attention.head_dim, backbone.config.ff_size,
            task.vocab_size, backbone.norm.eps,
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
            tokens.data_ptr(), targets.data_ptr(), *tokens.shape, torch.get_num_threads(),
            self._rounds, self._dropout, seed, _address(gradients),
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
    return max(torch.get_num_threads(), CACHED_TOKENS // batch.tokens.size(1))


def check_supported(task: nn.Module) -> list[Block]:
    """The blocks of a task that training.cpp can train.

    Raises:
        UnsupportedError: names the part that it lacks.
    """
    _require(type(task) is Language and type(task.backbone) is Llama, type(task).__name__)
    assert isinstance(task, Language)
    backbone: Any = task.backbone
    config, embed = backbone.config, backbone.embed
    _require(task.criterion is None and not task.label_smoothing, "this loss")
    _require(config.logit_softcap is None, "a limit of logits")
    _require(type(embed) is Embedding and embed.scale == 1, "this embedding")
    _require(task.head is None or type(task.head) is nn.Linear, "this head")
    _require(task.head is None or task.head.bias is None, "this head")
    _require(not any(each._forward_hooks for each in task.modules()), "hooks")
    for weight in task.parameters():
        plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
        _require(plain and weight.is_contiguous() and weight.requires_grad, "these weights")
    blocks: list[Any] = list(backbone.blocks)
    for block in blocks:
        _check_block(block, config)
    return blocks


def _check_block(block: Any, config: Any) -> None:
    attention, mlp = block.attention, block.mlp
    _require(type(block) is Block and block.cross is None, type(block).__name__)
    _require(block.residual is pre_norm and type(attention) is Attention, "this block")
    _require(attention.mask.window is None and attention.softcap is None, "this attention")
    _require(attention.dropout == mlp.dropout == config.dropout, "several rates of dropout")
    position = attention.position
    _require(type(position) is RotaryEmbedding and position.has_tables, "these positions")
    _require(position.rotated == attention.head_dim, "heads that are rotated in part")
    _require(type(mlp) is GatedMLP and mlp.activation is ACTIVATIONS["silu"], "this activation")
    for linear in (attention.qkv, attention.out, mlp.gate_up, mlp.down):
        _require(type(linear) is nn.Linear and linear.bias is None, type(linear).__name__)
    norms = [block.attention_norm, block.mlp_norm]
    if attention.query_norm is not None:
        _require(attention.norms_each_head, "a norm of all heads together")
        norms += [attention.query_norm, attention.key_norm]
    for norm in norms:
        _require(type(norm) is RMSNorm and not norm.offset, type(norm).__name__)
        _require(norm.eps == config.norm_eps, "norms with several eps")
    sizes = config.d_model, config.ff_size, config.head_size // 2
    _require(all(size % LANES == 0 for size in sizes), "a width that is no multiple of 16")


def _layer(block: Any) -> dict[str, Tensor | None]:
    attention, mlp = block.attention, block.mlp
    modules = (
        block.attention_norm, attention.qkv, attention.query_norm, attention.key_norm,
        attention.out, block.mlp_norm, mlp.gate_up, mlp.down,
    )  # fmt: skip
    weights = [None if module is None else module.weight for module in modules]
    return dict(zip(LAYER, weights, strict=True))


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _require(supported: bool, part: str) -> None:
    if not supported:
        raise UnsupportedError(part)
