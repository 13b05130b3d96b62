"""Describes a model to decoder.cpp: the parts of its blocks, and where their weights are."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from ..models.base import Architecture
from ..models.llama import Model as Llama
from ..nn.attention import Attention
from ..nn.block import (
    ACTIVATIONS,
    MLP,
    Block,
    GatedMLP,
    NormPair,
    ParallelBlock,
    Residual,
    output_norm,
    post_norm,
    pre_norm,
    sandwich_norm,
)
from ..nn.embeddings import (
    Embedding,
    LearnedPositions,
    PositionEncoding,
    RotaryEmbedding,
    SinusoidalPositions,
)
from ..nn.lora import LoraLinear
from ..nn.norm import LayerNorm, RMSNorm
from ..tasks.base import BaseTask

WEIGHT_TYPES = {"float32": 0, "bfloat16": 1, "int8": 2, "int4": 3}
"""`WeightType` of weight_types.h."""
SMALL_HEAD = 1 << 18
"""Weights of an output matrix up to which it stays in float32."""
NORM_KINDS: dict[type[nn.Module], int] = {RMSNorm: 1, LayerNorm: 2}
RESIDUALS: dict[Residual, int] = {pre_norm: 0, post_norm: 1, output_norm: 2, sandwich_norm: 3}
PARALLEL = 4
ACTIVATION_NAMES = ("silu", "gelu", "gelu_tanh", "relu")  # in the order of simd.h


class UnsupportedError(Exception):
    """The model has a part that decoder.cpp lacks."""


class NormWeights(ctypes.Structure):
    """These structures are those of decoder.cpp."""

    _fields_ = [
        ("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p),
        ("kind", ctypes.c_int), ("size", ctypes.c_int), ("eps", ctypes.c_float),
    ]  # fmt: skip


class LinearWeights(ctypes.Structure):
    """A matrix (rows, columns)."""

    _fields_ = [
        ("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p),
        ("out", ctypes.c_int), ("inputs", ctypes.c_int),
    ]  # fmt: skip


class LayerWeights(ctypes.Structure):
    """A block."""

    _fields_ = [
        *[(name, NormWeights) for name in ("attention_norm", "attention_norm_after", "mlp_norm",
                                           "mlp_norm_after", "query_norm", "key_norm")],
        *[(name, LinearWeights) for name in ("qkv", "attention_out", "gate", "up", "down")],
        ("cos", ctypes.c_void_p), ("sin", ctypes.c_void_p),
        *[(name, ctypes.c_int) for name in ("rotated", "window", "residual", "activation")],
        ("scale", ctypes.c_float), ("softcap", ctypes.c_float),
    ]  # fmt: skip


class ModelWeights(ctypes.Structure):
    """A model."""

    _fields_ = [
        ("layers", ctypes.POINTER(LayerWeights)),
        ("embedding", ctypes.c_void_p), ("positions", ctypes.c_void_p),
        ("norm", NormWeights), ("head", LinearWeights),
        *[(name, ctypes.c_int) for name in ("num_layers", "d_model", "heads", "kv_heads",
                                            "head_dim", "weight_type", "head_type")],
        ("embedding_scale", ctypes.c_float), ("logit_softcap", ctypes.c_float),
    ]  # fmt: skip


class Description:
    """A model as decoder.cpp wants it, and the tensors that it points to."""

    def __init__(self, task: BaseTask, dtype: str) -> None:
        """Describes a decoder.

        Raises:
            UnsupportedError: names the part that decoder.cpp lacks.
        """
        backbone = task.backbone
        self._tensors: dict[int, Tensor] = {}
        self._rotations: dict[RotaryEmbedding, tuple[Tensor, Tensor]] = {}
        _check_methods(task)
        self.layers = (LayerWeights * len(backbone.blocks))(
            *[self._layer(block) for block in backbone.blocks]
        )
        shapes = {(each.heads, each.kv_heads, each.head_dim) for each in _attentions(backbone)}
        _require(len(shapes) == 1, "layers of several shapes")
        embed, config = backbone.embed, backbone.config
        _require(type(embed) is Embedding and embed.norm is None, "this embedding")
        head = embed.token if task.head is None else task.head
        _require(task.head is None or (type(head) is nn.Linear and head.bias is None), "this head")
        small = head.weight.numel() <= SMALL_HEAD
        heads, kv_heads, head_dim = shapes.pop()
        self.model = ModelWeights(
            self.layers, self._pointer(embed.token.weight), self._positions(embed.position),
            self._norm(backbone.norm), self._linear(head.weight), len(self.layers),
            config.d_model, heads, kv_heads, head_dim,
            WEIGHT_TYPES[dtype], WEIGHT_TYPES["float32" if small else dtype],
            embed.scale, getattr(config, "logit_softcap", None) or 0.0,
        )  # fmt: skip

    @property
    def kept(self) -> list[Tensor]:
        """The tensors that decoder.cpp reads in place: all others are packed."""
        return list(self._tensors.values())

    def _layer(self, block: nn.Module) -> LayerWeights:
        _require(type(block) in (Block, ParallelBlock), type(block).__name__)
        assert isinstance(block, Block)
        attention, mlp, parallel = block.attention, block.mlp, type(block) is ParallelBlock
        _require(block.cross is None and type(attention) is Attention, "this attention")
        _require(attention.mask.causal and not attention.position.adds_bias, "this mask")
        _require(block.residual in RESIDUALS, "this residual connection")
        residual = PARALLEL if parallel else RESIDUALS[block.residual]
        layer = LayerWeights(residual=residual)
        layer.attention_norm, layer.attention_norm_after = self._norms(block.attention_norm)
        layer.mlp_norm, layer.mlp_norm_after = self._norms(block.mlp_norm)
        # attention
        layer.query_norm = self._norm(attention.query_norm)
        layer.key_norm = self._norm(attention.key_norm)
        layer.qkv = self._matrix(attention.qkv)
        layer.attention_out = self._matrix(attention.out)
        scale = attention.head_dim**-0.5 if attention.scale is None else attention.scale
        layer.scale, layer.softcap = scale, attention.softcap or 0.0
        layer.window = attention.mask.window or 0
        position = attention.position
        if type(position) is RotaryEmbedding:
            cos, sin = self._rotation(position)
            layer.cos, layer.sin = self._pointer(cos), self._pointer(sin)
            layer.rotated = position.rotated
        else:
            _require(type(position) is PositionEncoding, "this position encoding")
        # feed-forward
        names: dict[Any, int] = {
            ACTIVATIONS[name]: number for number, name in enumerate(ACTIVATION_NAMES)
        }
        _require(type(mlp) in (MLP, GatedMLP), type(mlp).__name__)
        _require(mlp.activation in names, "this activation")
        layer.activation = names[mlp.activation]
        layer.down = self._matrix(mlp.down)
        if isinstance(mlp, GatedMLP):
            weight, bias = _merged(mlp.gate_up)
            gate, up = weight.chunk(2)
            biases = (None, None) if bias is None else bias.chunk(2)
            layer.gate, layer.up = self._linear(gate, biases[0]), self._linear(up, biases[1])
        else:
            layer.up = self._matrix(mlp.up)
        return layer

    def _norms(self, norm: nn.Module) -> tuple[NormWeights, NormWeights]:
        """Those before and after a sublayer."""
        if isinstance(norm, NormPair):
            return self._norm(norm.before), self._norm(norm.after)
        return self._norm(norm), NormWeights()

    def _norm(self, norm: nn.Module | None) -> NormWeights:
        if norm is None or type(norm) is nn.Identity:
            return NormWeights()
        _require(type(norm) in NORM_KINDS, type(norm).__name__)
        assert isinstance(norm, RMSNorm | LayerNorm)
        factor = norm.factor if isinstance(norm, RMSNorm) else norm.weight
        bias = norm.bias if isinstance(norm, LayerNorm) else None
        return NormWeights(
            self._pointer(factor), None if bias is None else self._pointer(bias),
            NORM_KINDS[type(norm)], factor.numel(), norm.eps,
        )  # fmt: skip

    def _matrix(self, linear: Any) -> LinearWeights:
        return self._linear(*_merged(linear))

    def _linear(self, weight: Tensor, bias: Tensor | None = None) -> LinearWeights:
        return LinearWeights(
            self._pointer(weight), None if bias is None else self._pointer(bias), *weight.shape
        )

    def _positions(self, position: nn.Module | None) -> int | None:
        if position is None:
            return None
        if isinstance(position, LearnedPositions):
            return self._pointer(position.weight)
        _require(isinstance(position, SinusoidalPositions), type(position).__name__)
        assert isinstance(position, SinusoidalPositions)
        return self._pointer(position.table)

    def _rotation(self, position: RotaryEmbedding) -> tuple[Tensor, Tensor]:
        """Cosines and sines (context, R); layers share them."""
        if position not in self._rotations:
            tables = position.cos, position.sin
            if not position.has_tables:
                tables = position._tables(torch.arange(position.context_length), torch.float32)
            self._rotations[position] = tables
        return self._rotations[position]

    def _pointer(self, tensor: Tensor) -> int:
        """The address of its numbers as float32."""
        # of float64 the digits would be lost, and the cache has no float16
        _require(tensor.dtype in (torch.float32, torch.bfloat16), str(tensor.dtype))
        plain = tensor.detach().float().contiguous()
        self._tensors[plain.data_ptr()] = plain
        return plain.data_ptr()


def _check_methods(task: BaseTask) -> None:
    """Refuses models that override what decoder.cpp does."""
    kind, model = type(task), type(task.backbone)
    own = (
        kind.logits is BaseTask.logits,
        kind.next_logits is BaseTask.next_logits,
        model.forward is Architecture.forward,
        model.new_cache is Architecture.new_cache,
        model.logits in (Architecture.logits, Llama.logits),
        model.kind == "decoder" and not model.has_head,
    )
    _require(all(own), model.__module__)
    _require(all(each.device.type == "cpu" for each in task.parameters()), "this device")


def _attentions(backbone: Architecture) -> list[Attention]:
    return [each for each in backbone.modules() if isinstance(each, Attention)]


def _merged(linear: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias; LoRA's low-rank update becomes a part of the matrix."""
    _require(type(linear) in (nn.Linear, LoraLinear), type(linear).__name__)
    update = linear.lora.delta_weight() if isinstance(linear, LoraLinear) else None
    return linear.weight if update is None else linear.weight + update, linear.bias


def _require(supported: bool, part: str) -> None:
    if not supported:
        raise UnsupportedError(part)
