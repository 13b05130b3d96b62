"""The feed-forward sublayer, which acts on each position by itself."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .dropout import dropout as apply_dropout

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
        gate, up = self.gate_up(x).chunk(2, -1)  # (B, T, F) each
        x = self.down(self.activation(gate) * up)  # (B, T, C)
        return apply_dropout(x, self.dropout) if self.training and self.dropout else x
