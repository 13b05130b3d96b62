"""The feed-forward sublayer, which acts on each position by itself."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .dropout import dropout as apply_dropout
from .lora import LoraLinear

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
