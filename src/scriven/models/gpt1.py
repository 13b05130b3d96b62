"""GPT (Radford et al. 2018): GPT-2's layers with the norm after each sum, and none at the end.

Loads in Hugging Face as OpenAIGPTLMHeadModel, which no other engine reads.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..nn.block import Block, post_norm
from ..nn.embeddings import Embedding, LearnedPositions
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.mask import AttentionMask
from ..nn.mlp import gelu_tanh
from .base import Architecture, check
from .gpt2 import BLOCK_NAMES
from .shared.classic import classic_block
from .shared.hf_config import Theirs, flag, is_kind, number, only, whole
from .shared.weight_map import Name


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
    """Size of the feed-forward layer; auto: four times the width, the only one that exports."""
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
        )


def block(config: Config) -> Block:
    """One layer; the paper's GELU is the tanh form, as in its own code."""
    return classic_block(config, post_norm, gelu_tanh, AttentionMask(causal=True))


class Model(Architecture):
    """A GPT-shaped decoder."""

    config: Config

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [block(config) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, nn.Identity())

    def init_weights(self) -> None:
        """0.02 everywhere (section 4.1): the norms after the sums keep the scale."""
        init_weights(self, [("norm.weight", ones), ("bias", zeros), ("weight", normal(0.02))])


NAMES = (
    Name("backbone.embed.token.weight", "transformer.tokens_embed.weight"),
    Name("backbone.embed.position.weight", "transformer.positions_embed.weight"),
    *BLOCK_NAMES,
    Name("head.weight", "lm_head.weight"),
)


def sizes(config: Config) -> dict[str, list[int]]:
    """Nothing is cut: query, key and value are one matrix there too."""
    return {}


def foreign(config: Config) -> dict[str, Any] | None:
    """Hugging Face's config.json; None for a feed-forward size that its class cannot have."""
    if config.d_ff not in (None, 4 * config.d_model):
        return None
    return {
        "architectures": ["OpenAIGPTLMHeadModel"],
        "model_type": "openai-gpt",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.layers,
        "n_head": config.heads,
        "afn": "gelu",  # the tanh form, under this name
        "layer_norm_epsilon": config.norm_eps,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }


def adopt(theirs: Theirs) -> dict[str, Any] | None:
    """The fields of Config that a Hugging Face config.json asks for; None where it is no GPT.

    Raises:
        SettingError: names the field that this file cannot express.
    """
    if not is_kind(theirs, "OpenAIGPTLMHeadModel", "openai-gpt"):
        return None
    only(theirs, afn=("gelu",))
    return {
        "vocab_size": whole(theirs, "vocab_size"),
        "context_length": whole(theirs, "n_positions", "n_ctx"),
        "layers": whole(theirs, "n_layer"),
        "heads": whole(theirs, "n_head"),
        "d_model": whole(theirs, "n_embd"),
        "dropout": number(theirs, "resid_pdrop", default=0.1),
        "tie_embeddings": flag(theirs, "tie_word_embeddings", True),
        "norm_eps": number(theirs, "layer_norm_epsilon", default=1e-5),
    }
