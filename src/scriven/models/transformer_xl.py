"""Transformer-XL (Dai et al. 2019): a memory of earlier segments, and distances for positions.

Post-norm blocks with ReLU as in the paper. Each layer keeps its inputs of the last `memory`
positions and attends to them too, without sending gradients there. Adaptive softmax is not built:
every token has a full-sized vector. No other library of today can load this model.
"""

from dataclasses import dataclass

import torch

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.block import MLP, Block, init_weights, normal, ones, post_norm, zeros
from ..nn.cache import Cache, LayerCache, SegmentMemory
from ..nn.embeddings import AttentionMask, DistanceEmbedding, Embedding, RelativePositions
from ..nn.norm import LayerNorm
from .base import Architecture, TransformerConfig

MAX_TABLE_LENGTH = 8192
"""Distances computed in advance at most; further ones are computed when a text is that long."""


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    MAY_BE_ZERO = ("vocab_size", "memory", "evaluation_memory")

    context_length: int = 256
    """Segment length in training, in tokens."""
    memory: int | None = None
    """Memory length in training: cached positions of earlier segments. auto: context_length."""
    evaluation_memory: int | None = None
    """Memory length in evaluation. auto: as in training."""
    head_dim: int | None = None
    """Dimension of each head; auto: d_model / heads."""
    dropout: float = 0.0
    """Dropout probability of embeddings and sublayer outputs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory", "evaluation_memory"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 2**31:
                raise SettingError(f"--model.{name}={value}: a whole number from 0 upwards")
        if self.d_model % 2:
            raise SettingError(
                f"--model.d_model={self.d_model}: distances are encoded in pairs of sine and "
                f"cosine, so it must be even, such as {self.d_model + 1}"
            )

    @property
    def trained_memory(self) -> int:
        """Positions kept while training."""
        return self.context_length if self.memory is None else self.memory

    @property
    def measured_memory(self) -> int:
        """Positions kept while the model is measured."""
        return self.trained_memory if self.evaluation_memory is None else self.evaluation_memory

    @property
    def attended_length(self) -> int:
        return self.context_length + self.trained_memory


def block(config: Config, distances: DistanceEmbedding) -> Block:
    """One layer."""
    attention = Attention(
        config.d_model,
        config.heads,
        head_dim=config.head_size,
        bias=False,
        mask=AttentionMask(causal=True),
        position=RelativePositions(distances, config.heads, config.head_size),
        dropout=config.dropout,
    )
    mlp = MLP(config.d_model, config.ff_size, torch.relu, dropout=config.dropout)
    norms = LayerNorm(config.d_model, config.norm_eps), LayerNorm(config.d_model, config.norm_eps)
    return Block(post_norm, attention, norms[0], mlp, norms[1])


class Model(Architecture):
    """A decoder with a memory of earlier segments."""

    config: Config
    position_kind = "relative"
    is_recurrent = True

    def __init__(self, config: Config) -> None:
        embed = Embedding(
            config.vocab_size, config.d_model, dropout=config.dropout, scale=config.d_model**0.5
        )
        # one table of distance vectors, shared by all layers
        longest = config.context_length + max(config.trained_memory, config.measured_memory)
        distances = DistanceEmbedding(config.d_model, min(longest + 1, MAX_TABLE_LENGTH))
        blocks = [block(config, distances) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, torch.nn.Identity())  # a block ends with its norm

    def init_weights(self) -> None:
        """Output projections start at zero; the authors' 0.02 everywhere learned more slowly."""
        table = [
            ("norm.weight", ones),
            ("bias", zeros),
            ("out.weight", zeros),
            ("down.weight", zeros),
            ("token.weight", normal(0.02)),
            ("weight", normal(self.config.d_model**-0.5)),
        ]
        init_weights(self, table)

    @property
    def max_position(self) -> int | None:
        """As far as one token attends when the model is measured."""
        return self.config.context_length + self.config.measured_memory

    def recurrent_state(self, batch: int, memory: int | None = None) -> Cache | None:
        """An empty memory for each layer; its length depends on whether the model trains."""
        if memory is None:
            memory = self.config.trained_memory if self.training else self.config.measured_memory
        return Cache([LayerCache(self_attn=SegmentMemory(memory)) for _ in self.blocks])

    @classmethod
    def mixing_flops(cls, config: Config) -> int:
        """Two scores and a value for each key that is attended to, and keys and values of the
        memory, which are computed anew for each segment. Distances, projected once for all rows of
        a batch, count with the weights, as once per token."""
        inner = config.heads * config.head_size  # H D
        # content score, distance score and value: 6 H D per pair, half of a segment on average
        attended = 6 * inner * (config.context_length + 1 + 2 * config.trained_memory) // 2
        # keys and values of the memory, once per segment: spread over its tokens
        memory = 4 * config.d_model * inner * config.trained_memory // config.context_length
        return config.layers * (attended + memory)
