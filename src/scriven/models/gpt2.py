"""GPT-2 (Radford et al. 2019): LayerNorm before each sublayer, learned positions, GELU, biases.

Loads in Hugging Face as GPT2LMHeadModel.
"""

from dataclasses import dataclass
from typing import Any

from ..nn.attention import Attention
from ..nn.block import Block
from ..nn.embed import Embedding
from ..nn.init import initialise, normal, ones, zeros
from ..nn.mlp import MLP, gelu_tanh
from ..nn.norm import LayerNorm
from ..nn.positions import Learned
from ..nn.residual import pre_norm
from ..nn.visibility import Visibility
from .shared.backbone import Backbone, check
from .shared.names import Name


@dataclass(frozen=True)
class Config:
    """The shape of the model."""

    vocabulary: int = 0
    """Number of tokens; set from the tokenizer."""
    context: int = 256
    """Longest sequence the model sees at once, in tokens."""
    layers: int = 4
    """Blocks."""
    heads: int = 4
    """Attention heads per block."""
    width: int = 128
    """Size of a token's vector."""
    hidden: int | None = None
    """Size of the feed-forward layer; auto: four times the width."""
    dropout: float = 0.0
    """Share of embeddings, attention weights and sublayer outputs dropped while training."""
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
            hidden=self.hidden,
        )


def block(config: Config) -> Block:
    """One layer."""
    attention = Attention(
        config.width,
        config.heads,
        visibility=Visibility(causal=True),
        dropout=config.dropout,
        attention_dropout=config.dropout,
    )
    hidden = config.hidden or 4 * config.width
    mlp = MLP(config.width, hidden, gelu_tanh, dropout=config.dropout)
    eps = config.norm_eps
    norms = LayerNorm(config.width, eps), LayerNorm(config.width, eps)
    return Block(pre_norm, attention, norms[0], mlp, norms[1])


class Model(Backbone):
    """A GPT-2-shaped decoder."""

    config: Config

    def __init__(self, config: Config) -> None:
        position = Learned(config.context, config.width)
        embed = Embedding(config.vocabulary, config.width, position, config.dropout)
        blocks = [block(config) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, LayerNorm(config.width, config.norm_eps))

    def initialise(self) -> None:
        """GPT-2's: 0.02 everywhere, residual outputs smaller by the root of their number."""
        residual = 0.02 / (2 * self.config.layers) ** 0.5
        table = [
            ("norm.weight", ones),
            ("bias", zeros),
            ("out.weight", normal(residual)),
            ("down.weight", normal(residual)),
            ("weight", normal(0.02)),
        ]
        initialise(self, table)


NAMES = (
    Name("backbone.embed.token.weight", "transformer.wte.weight"),
    Name("backbone.embed.position.weight", "transformer.wpe.weight"),
    Name("backbone.blocks.{n}.attention_norm.weight", "transformer.h.{n}.ln_1.weight"),
    Name("backbone.blocks.{n}.attention_norm.bias", "transformer.h.{n}.ln_1.bias"),
    Name(
        "backbone.blocks.{n}.attention.qkv.weight",
        "transformer.h.{n}.attn.c_attn.weight",
        transposed=True,
    ),
    Name("backbone.blocks.{n}.attention.qkv.bias", "transformer.h.{n}.attn.c_attn.bias"),
    Name(
        "backbone.blocks.{n}.attention.out.weight",
        "transformer.h.{n}.attn.c_proj.weight",
        transposed=True,
    ),
    Name("backbone.blocks.{n}.attention.out.bias", "transformer.h.{n}.attn.c_proj.bias"),
    Name("backbone.blocks.{n}.mlp_norm.weight", "transformer.h.{n}.ln_2.weight"),
    Name("backbone.blocks.{n}.mlp_norm.bias", "transformer.h.{n}.ln_2.bias"),
    Name("backbone.blocks.{n}.mlp.up.weight", "transformer.h.{n}.mlp.c_fc.weight", transposed=True),
    Name("backbone.blocks.{n}.mlp.up.bias", "transformer.h.{n}.mlp.c_fc.bias"),
    Name(
        "backbone.blocks.{n}.mlp.down.weight",
        "transformer.h.{n}.mlp.c_proj.weight",
        transposed=True,
    ),
    Name("backbone.blocks.{n}.mlp.down.bias", "transformer.h.{n}.mlp.c_proj.bias"),
    Name("backbone.norm.weight", "transformer.ln_f.weight"),
    Name("backbone.norm.bias", "transformer.ln_f.bias"),
    Name("head.weight", "lm_head.weight"),
)


def sizes(config: Config) -> dict[str, list[int]]:
    """Nothing is cut: GPT-2 keeps query, key and value in one matrix too."""
    return {}


def foreign(config: Config) -> dict[str, Any]:
    """Hugging Face's config.json."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocabulary,
        "n_positions": config.context,
        "n_ctx": config.context,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "scale_attn_weights": True,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tied,
    }
