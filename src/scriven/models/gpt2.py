"""GPT-2 (Radford et al. 2019): LayerNorm before each sublayer, learned positions, GELU, biases.

Loads in Hugging Face as GPT2LMHeadModel. With sinusoidal positions too: that class keeps a table of
positions whatever is in it.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ..nn.block import Block, pre_norm
from ..nn.embeddings import Embedding, LearnedPositions, SinusoidalPositions
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.mask import AttentionMask
from ..nn.mlp import gelu_tanh
from ..nn.norm import LayerNorm
from .base import Architecture, check
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
    """Size of the feed-forward layer; auto: four times the width."""
    dropout: float = 0.0
    """Share of embeddings, attention weights and sublayer outputs dropped while training."""
    tie_embeddings: bool = True
    """One matrix for reading and for writing tokens."""
    positions: Literal["learned", "sinusoidal"] = "learned"
    """A vector learned for each position, or the fixed sines of Vaswani et al. 2017."""
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
    """One layer."""
    return classic_block(config, pre_norm, gelu_tanh, AttentionMask(causal=True))


def sines(config: Config) -> SinusoidalPositions:
    """Sines divided by the root of the width: Vaswani et al. multiply token vectors by it instead
    (section 3.4). Sines of full size drown the tokens, and training finds no words for long."""
    return SinusoidalPositions(config.context_length, config.d_model, scale=config.d_model**-0.5)


class Model(Architecture):
    """A GPT-2-shaped decoder."""

    config: Config

    def __init__(self, config: Config) -> None:
        learned = config.positions == "learned"
        position = (
            LearnedPositions(config.context_length, config.d_model) if learned else sines(config)
        )
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [block(config) for _ in range(config.layers)]
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


BLOCK_NAMES = (
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
)

NAMES = (
    Name("backbone.embed.token.weight", "transformer.wte.weight"),
    Name("backbone.embed.position.weight", "transformer.wpe.weight"),
    *BLOCK_NAMES,
    Name("backbone.norm.weight", "transformer.ln_f.weight"),
    Name("backbone.norm.bias", "transformer.ln_f.bias"),
    Name("head.weight", "lm_head.weight"),
)


def complete(config: Config, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds what the twin stores and this file computes: fixed positions."""
    if config.positions == "learned":
        return theirs
    return {**theirs, "transformer.wpe.weight": sines(config).table}


def reduce(config: Config, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `complete`."""
    if config.positions == "learned":
        return theirs
    return {name: theirs[name] for name in theirs if name != "transformer.wpe.weight"}


def sizes(config: Config) -> dict[str, list[int]]:
    """Nothing is cut: GPT-2 keeps query, key and value in one matrix too."""
    return {}


def foreign(config: Config) -> dict[str, Any]:
    """Hugging Face's config.json."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "scale_attn_weights": True,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }


def adopt(theirs: Theirs) -> dict[str, Any] | None:
    """The fields of Config that a Hugging Face config.json asks for; None where it is no GPT-2.

    Raises:
        SettingError: names the field that this file cannot express.
    """
    if not is_kind(theirs, "GPT2LMHeadModel", "gpt2"):
        return None
    only(
        theirs,
        activation_function=("gelu_new", "gelu_pytorch_tanh"),
        scale_attn_weights=(True,),
        scale_attn_by_inverse_layer_idx=(False,),
        add_cross_attention=(False,),
    )
    return {
        "vocab_size": whole(theirs, "vocab_size"),
        "context_length": whole(theirs, "n_positions", "n_ctx"),
        "layers": whole(theirs, "n_layer"),
        "heads": whole(theirs, "n_head"),
        "d_model": whole(theirs, "n_embd"),
        "d_ff": None if theirs.get("n_inner") is None else whole(theirs, "n_inner"),
        "dropout": number(theirs, "resid_pdrop", default=0.1),
        "tie_embeddings": flag(theirs, "tie_word_embeddings", True),
        "norm_eps": number(theirs, "layer_norm_epsilon", default=1e-5),
    }
