"""GPT (Radford et al. 2018): GPT-2's layers with the norm after each sum, and none at the end.

Loads in Hugging Face as OpenAIGPTLMHeadModel, which no other engine reads.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..nn.block import init_weights, normal, ones, post_norm, zeros
from ..nn.embeddings import Embedding, LearnedPositions
from .base import Architecture, TransformerConfig
from .gpt2 import BLOCK_WEIGHT_MAP, SIZES, block
from .shared.hf_config import HFClass, Row
from .shared.weight_map import WeightName


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    d_ff: int | None = None
    """Hidden size of the feed-forward layer; auto: 4 d_model, the only one that can be exported."""


def _same_size(config: Any) -> dict[str, Any] | None:
    return {} if config.ff_size == 4 * config.d_model else None


class Model(Architecture):
    """A GPT-shaped decoder; the paper's GELU is the tanh form, as in its own code."""

    config: Config
    HF_CLASSES = (
        HFClass(
            "OpenAIGPTLMHeadModel",
            "openai-gpt",
            # the class has no field for the feed-forward size
            (*SIZES, Row(("d_ff",), lambda *_: {"d_ff": None}, _same_size)),
            hf_config={"afn": "gelu"},  # the tanh form, under this name
        ),
    )
    HF_WEIGHT_MAP = (
        WeightName("backbone.embed.token.weight", "transformer.tokens_embed.weight"),
        WeightName("backbone.embed.position.weight", "transformer.positions_embed.weight"),
        *BLOCK_WEIGHT_MAP,
        WeightName("head.weight", "lm_head.weight"),
    )

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [block(config, post_norm) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, nn.Identity())  # a block ends with its norm

    def init_weights(self) -> None:
        """0.02 everywhere (section 4.1): the norms after the sums keep the scale."""
        init_weights(self, [("norm.weight", ones), ("bias", zeros), ("weight", normal(0.02))])
