"""Transformer-XL (Dai et al. 2019): a memory of earlier segments, and distances for positions.

Post-norm blocks with ReLU as in the paper. Each layer remembers its inputs of the last `memory`
positions and attends to them too, without sending gradients there. Adaptive softmax is not built:
every token has a full-sized vector. No other library of today can load this model.
"""

from dataclasses import dataclass
from typing import Any

import torch

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.block import Block
from ..nn.embed import Embedding
from ..nn.init import initialise, normal, ones, zeros
from ..nn.mlp import MLP
from ..nn.norm import LayerNorm
from ..nn.positions import Distances, Relative
from ..nn.residual import post_norm
from ..nn.state import LayerState, SegmentMemory, State
from ..nn.visibility import Visibility
from .shared.backbone import Backbone, check
from .shared.names import Name

TABLE = 8192
"""Distances kept ready at most; further ones are computed when a text is that long."""


@dataclass(frozen=True)
class Config:
    """The shape of the model."""

    vocabulary: int = 0
    """Number of tokens; set from the tokenizer."""
    context: int = 256
    """Length of a segment, in tokens: what is read at once while training."""
    memory: int | None = None
    """Positions of earlier segments that each layer still sees. auto: as many as the context."""
    evaluation_memory: int | None = None
    """The same when the model is measured. auto: as while training."""
    layers: int = 4
    """Blocks."""
    heads: int = 4
    """Attention heads per block."""
    width: int = 128
    """Size of a token's vector."""
    head_width: int | None = None
    """Size of a head; auto: width / heads."""
    hidden: int | None = None
    """Size of the feed-forward layer; auto: four times the width."""
    dropout: float = 0.0
    """Share of embeddings and sublayer outputs dropped while training."""
    tied: bool = True
    """One matrix for reading and for writing tokens."""
    norm_eps: float = 1e-5
    """Added under the root of a norm."""

    def __post_init__(self) -> None:
        check(
            self,
            context=self.context,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            head_width=self.head_width,
            hidden=self.hidden,
        )
        for name in ("memory", "evaluation_memory"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 2**31:
                raise SettingError(f"--model.{name}={value}: a whole number from 0 upwards")
        if self.width % 2:
            raise SettingError(
                f"--model.width={self.width}: distances are written in pairs of sine and cosine, "
                f"so the width must be even, such as {self.width + 1}"
            )

    @property
    def trained_memory(self) -> int:
        """Positions kept while training."""
        return self.context if self.memory is None else self.memory

    @property
    def measured_memory(self) -> int:
        """Positions kept while the model is measured."""
        return self.trained_memory if self.evaluation_memory is None else self.evaluation_memory

    @property
    def size_of_head(self) -> int:
        """D."""
        return self.head_width or self.width // self.heads


def block(config: Config, distances: Distances) -> Block:
    """One layer."""
    attention = Attention(
        config.width,
        config.heads,
        head_width=config.size_of_head,
        bias=False,
        visibility=Visibility(causal=True),
        position=Relative(distances, config.heads, config.size_of_head),
        dropout=config.dropout,
    )
    hidden = config.hidden or 4 * config.width
    mlp = MLP(config.width, hidden, torch.relu, dropout=config.dropout)
    norms = LayerNorm(config.width, config.norm_eps), LayerNorm(config.width, config.norm_eps)
    return Block(post_norm, attention, norms[0], mlp, norms[1])


class Model(Backbone):
    """A decoder that remembers."""

    config: Config

    def __init__(self, config: Config) -> None:
        embed = Embedding(
            config.vocabulary, config.width, dropout=config.dropout, scale=config.width**0.5
        )
        longest = config.context + max(config.trained_memory, config.measured_memory)
        distances = Distances(config.width, min(longest + 1, TABLE))
        blocks = [block(config, distances) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, torch.nn.Identity())  # a block ends with its norm

    @property
    def reach(self) -> int | None:
        """As far as one token sees directly when the model is measured."""
        return self.config.context + self.config.measured_memory

    def carried(self, batch: int, memory: int | None = None) -> State | None:
        """An empty memory for each layer; its length depends on whether the model trains."""
        if memory is None:
            memory = self.config.trained_memory if self.training else self.config.measured_memory
        return State([LayerState(own=SegmentMemory(memory)) for _ in self.blocks])

    def initialise(self) -> None:
        """Output projections start at zero; the authors' 0.02 everywhere learned more slowly."""
        table = [
            ("norm.weight", ones),
            ("bias", zeros),
            ("out.weight", zeros),
            ("down.weight", zeros),
            ("token.weight", normal(0.02)),
            ("weight", normal(self.config.width**-0.5)),
        ]
        initialise(self, table)


NAMES: tuple[Name, ...] = ()


def sizes(config: Config) -> dict[str, list[int]]:
    """Nothing is cut."""
    return {}


def foreign(config: Config) -> dict[str, Any] | None:
    """No other library has this architecture any more."""
    return None


def mixing(config: Config) -> int:
    """FLOPs per token beyond its weights: two scores and a value for each key that is seen, and
    keys and values of the memory made anew for each segment. Distances, projected once for all
    rows of a batch, count with the weights, as once per token."""
    inner = config.heads * config.size_of_head
    seen = 6 * inner * (config.context + 1 + 2 * config.trained_memory) // 2
    again = 4 * config.width * inner * config.trained_memory // config.context
    return config.layers * (seen + again)
