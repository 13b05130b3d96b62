"""GPT-3 (Brown et al. 2020, section 2.1): GPT-2 whose every other layer sees only a band.

Dense, it is a GPT-2, and loads in Hugging Face as GPT2LMHeadModel; with a band it has no twin.
"""

from dataclasses import asdict, dataclass
from typing import Any

from ..nn.block import Block, pre_norm
from ..nn.embeddings import Embedding, LearnedPositions
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.mask import AttentionMask
from ..nn.mlp import gelu_tanh
from ..nn.norm import LayerNorm
from . import gpt2
from .base import Architecture, check
from .shared.classic import classic_block


@dataclass(frozen=True)
class Config:
    """The shape of the model."""

    vocab_size: int = 0
    """Number of tokens; set from the tokenizer."""
    context_length: int = 256
    """Longest sequence the model sees at once, in tokens."""
    layers: int = 4
    """Blocks."""
    heads: int = 4
    """Attention heads per block."""
    d_model: int = 128
    """Size of a token's vector."""
    d_ff: int | None = None
    """Size of the feed-forward layer; auto: four times the width."""
    # Brown et al. do not say how wide their bands are. Child et al. 2019, whose pattern it is, take
    # a stride of 128 for text, whatever the context.
    window: int | None = 128
    """Positions seen in every second layer, the own included; none: all, in every layer."""
    dropout: float = 0.0
    """Share of embeddings, attention weights and sublayer outputs dropped while training."""
    tie_embeddings: bool = True
    """One matrix for reading and for writing tokens."""
    norm_eps: float = 1e-5
    """Added under the root of a norm."""

    def __post_init__(self) -> None:
        check(
            self,
            context_length=self.context_length,
            layers=self.layers,
            heads=self.heads,
            d_model=self.d_model,
            d_ff=self.d_ff,
            window=self.window,
        )

    @property
    def band(self) -> int | None:
        """The window, where it hides anything."""
        return self.window if self.window and self.window < self.context_length else None


def block(config: Config, layer: int) -> Block:
    """Layer 0, 2 ... is dense; 1, 3 ... sees the last `window` positions."""
    window = config.band if layer % 2 else None
    return classic_block(config, pre_norm, gelu_tanh, AttentionMask(causal=True, window=window))


class Model(Architecture):
    """A GPT-3-shaped decoder."""

    config: Config

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [block(config, layer) for layer in range(config.layers)]
        super().__init__(config, embed, blocks, LayerNorm(config.d_model, config.norm_eps))

    def init_weights(self) -> None:
        """GPT-2's: 0.02 everywhere, residual outputs smaller by the root of their number."""
        residual = 0.02 / (2 * self.config.layers) ** 0.5
        table = [
            ("norm.weight", ones),
            ("bias", zeros),
            ("out.weight", normal(residual)),
            ("down.weight", normal(residual)),
            ("weight", normal(0.02)),
        ]
        init_weights(self, table)


NAMES = gpt2.NAMES


def sizes(config: Config) -> dict[str, list[int]]:
    """Nothing is cut."""
    return {}


def foreign(config: Config) -> dict[str, Any] | None:
    """Hugging Face's config.json, a GPT-2's; None where a layer is banded."""
    if config.band is not None and config.layers > 1:
        return None
    shared = {name: value for name, value in asdict(config).items() if name != "window"}
    return gpt2.foreign(gpt2.Config(**shared))
