"""The block of 2018 to 2020: attention and a GELU layer, both with biases, and LayerNorm.

GPT-1, GPT-2, GPT-3 and RoBERTa differ in what they hand in here and in nothing else. Knows no
embedding, no positions and no initial weights.
"""

from typing import Protocol

from ...nn.attention import Attention
from ...nn.block import Block, Residual
from ...nn.mask import AttentionMask
from ...nn.mlp import MLP, Activation
from ...nn.norm import LayerNorm


class Shape(Protocol):
    """The fields of a Config that the block needs."""

    @property
    def d_model(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def d_ff(self) -> int | None: ...
    @property
    def dropout(self) -> float: ...
    @property
    def norm_eps(self) -> float: ...


def classic_block(
    config: Shape, residual: Residual, activation: Activation, mask: AttentionMask
) -> Block:
    """One layer; a feed-forward size of None is four times the width."""
    attention = Attention(
        config.d_model,
        config.heads,
        mask=mask,
        dropout=config.dropout,
        attention_dropout=config.dropout,
    )
    d_ff = config.d_ff or 4 * config.d_model
    mlp = MLP(config.d_model, d_ff, activation, dropout=config.dropout)
    norms = LayerNorm(config.d_model, config.norm_eps), LayerNorm(config.d_model, config.norm_eps)
    return Block(residual, attention, norms[0], mlp, norms[1])
