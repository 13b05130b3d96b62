"""The one transformer block, its feed-forward layer, and the table of initial weights. An
architecture is what it passes in here.

Shapes in comments of nn/: B batch rows, T positions of the queries, S positions of the keys,
C `d_model`, H query heads, K key/value heads, D `head_dim`, F `d_ff`, V vocabulary. Positions are
(T,) where all rows agree, else (B, T); a negative position is padding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .attention import Attention
from .cache import EMPTY, LayerCache
from .dropout import dropout as apply_dropout
from .embeddings import ForwardContext
from .lora import LoraLinear

Sublayer = Callable[[Tensor], Tensor]
Residual = Callable[[Tensor, Sublayer, Sublayer], Tensor]
"""Where the norm sits around a sublayer: (x, norm, sublayer) -> x. A function that is passed to the
block, not a flag in it."""


def pre_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """x + sublayer(norm(x)): the residual stream itself is never normalised (GPT-2, Llama)."""
    return x + sublayer(norm(x)).to(x.dtype)  # autocast gives bfloat16, the stream stays float32


def post_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """norm(x + sublayer(x)) (Vaswani et al. 2017, section 3.1; GPT-1, BERT)."""
    return norm(x + sublayer(x))


def output_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """x + norm(sublayer(x)): what is added to the residual stream is normalised (OLMo 2, 2025,
    section 3.1)."""
    return x + norm(sublayer(x)).to(x.dtype)


class NormPair(nn.Module):
    """The two norms of `sandwich_norm`."""

    def __init__(self, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.after = before, after


def sandwich_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """x + after(sublayer(before(x))), with a `NormPair` (Gemma 2, 2024, section 2)."""
    assert isinstance(norm, NormPair)
    return x + norm.after(sublayer(norm.before(x))).to(x.dtype)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, optionally cross-attention, and a feed-forward layer, each with its residual.

    Args:
        residual: `pre_norm`, `post_norm`, `output_norm` or `sandwich_norm`.
        attention, mlp: the sublayers; attention_norm, mlp_norm: their norms.
        cross, cross_norm: attention to the output of an encoder (encoder-decoder models).
    """

    def __init__(
        self,
        residual: Residual,
        attention: Attention,
        attention_norm: nn.Module,
        mlp: nn.Module,
        mlp_norm: nn.Module,
        cross: Attention | None = None,
        cross_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.attention, self.attention_norm = attention, attention_norm
        self.cross, self.cross_norm = cross, cross_norm
        self.mlp, self.mlp_norm = mlp, mlp_norm

    def forward(
        self,
        x: Tensor,
        context: ForwardContext,
        cache: LayerCache = EMPTY,
        source: Tensor | None = None,
        source_positions: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C).

        Args:
            x: the residual stream.
            context: positions of the queries.
            cache: of this block; extended by this call.
            source: (B, S, C) output of an encoder, at `source_positions`.
        """
        # 1. self-attention
        x = self.residual(
            x, self.attention_norm, lambda h: self.attention(h, context, cache.self_attn)
        )
        # 2. cross-attention to the encoder's output
        cross = self.cross
        if cross is not None:
            assert source is not None and self.cross_norm is not None
            x = self.residual(
                x,
                self.cross_norm,
                lambda h: cross(h, context, cache.cross, source, source_positions),
            )
        # 3. feed-forward
        return self.residual(x, self.mlp_norm, self.mlp)


class ParallelBlock(Block):
    """Attention and feed-forward layer read the same input: x + attention(norm(x)) + mlp(norm(x)),
    each with its own norm (GPT-NeoX, Black et al. 2022, section 2.1.2)."""

    def forward(
        self,
        x: Tensor,
        context: ForwardContext,
        cache: LayerCache = EMPTY,
        source: Tensor | None = None,
        source_positions: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C), without cross-attention."""
        y = self.attention(self.attention_norm(x), context, cache.self_attn)
        return x + (y + self.mlp(self.mlp_norm(x))).to(x.dtype)  # type: ignore[no-any-return]


Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in the tanh approximation of GPT-2 (Hendrycks and Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Activation] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": F.relu,
}
"""By their name in a Config."""


class MLP(nn.Module):
    """activation(x U) D: two layers (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, d_model: int, d_ff: int, activation: Activation, dropout: float = 0) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.activation, self.dropout = activation, dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        hidden = self.activation(self.up(x))  # (B, T, F)
        x = self.down(hidden)  # (B, T, C)
        return apply_dropout(x, self.dropout) if self.training and self.dropout else x


class GatedMLP(nn.Module):
    """(activation(x G) * x U) D: with SiLU it is SwiGLU (Shazeer 2020, equation 6)."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        activation: Activation,
        dropout: float = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * d_ff, bias=bias)  # gate first, then up: one matmul
        self.down = nn.Linear(d_ff, d_model, bias=bias)
        self.activation, self.dropout = activation, dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        gate_up = self.gate_up(x)  # (B, T, 2 F)
        if self.activation is F.silu and torch.is_grad_enabled() and x.device.type == "cpu":
            if isinstance(self.down, LoraLinear):
                x = self.down(gate_up, _SwiGLU)
            else:
                x = self.down(_SwiGLU.apply(gate_up))  # type: ignore[no-untyped-call]
        else:
            gate, up = gate_up.chunk(2, -1)  # (B, T, F) each
            x = self.down(self.activation(gate) * up)  # (B, T, C)
        return apply_dropout(x, self.dropout) if self.training and self.dropout else x


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up of (..., 2 F), with a backward pass that keeps the input alone and fills one
    gradient: autograd would keep two more of half the size, and add up two padded with zeros."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return _SwiGLU.value(gate_up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        return _SwiGLU.derivative(gate_up, grad)

    @staticmethod
    def value(gate_up: Tensor) -> Tensor:
        """(..., 2 F) -> (..., F)"""
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def derivative(gate_up: Tensor, grad: Tensor) -> Tensor:
        """The gradient of (..., 2 F) from that of (..., F)."""
        gate, up = gate_up.chunk(2, -1)
        d_gate_up = torch.empty_like(gate_up)
        d_gate, d_up = d_gate_up.chunk(2, -1)
        torch.mul(F.silu(gate), grad, out=d_up)
        d_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
        return d_gate_up


Rule = Callable[[Tensor], object]

zeros: Rule = nn.init.zeros_
"""For a sublayer that starts as the identity, or a head whose first predictions are uniform."""
ones: Rule = nn.init.ones_
"""For a norm that starts without an effect."""


def normal(std: float) -> Rule:
    """Gaussian with mean 0."""
    return partial(nn.init.normal_, mean=0.0, std=std)


@torch.no_grad()
def init_weights(module: nn.Module, table: Sequence[tuple[str, Rule]]) -> None:
    """Applies the first rule whose key ends a parameter's name; every parameter needs one.

    Parameters are drawn in the order in which the module holds them, so a seed gives the same
    weights as long as that order stays.
    """
    # in the order of `named_parameters`, which is that of the modules' attributes; a parameter that
    # no rule names must not stay at zero unnoticed
    for name, parameter in module.named_parameters():
        for end, rule in table:
            if name.endswith(end):
                rule(parameter)
                break
        else:
            raise AssertionError(f"no rule for the initial value of {name}")
