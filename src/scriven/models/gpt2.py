"""GPT-2 (Radford et al. 2019): LayerNorm before each sublayer, learned positions, GELU, biases.

Loads in Hugging Face as GPT2LMHeadModel. With sinusoidal positions too: that class keeps a table of
positions whatever is in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ..nn.attention import Attention
from ..nn.block import (
    MLP,
    Activation,
    Block,
    Residual,
    Rule,
    gelu_tanh,
    init_weights,
    normal,
    ones,
    pre_norm,
    zeros,
)
from ..nn.embeddings import AttentionMask, Embedding, LearnedPositions, SinusoidalPositions
from ..nn.norm import LayerNorm
from .base import Architecture, BaseConfig, TransformerConfig
from .shared.hf_config import HFClass, Row, boolean, integer, number, optional_integer, row
from .shared.weight_map import WeightName


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    positions: Literal["learned", "sinusoidal"] = "learned"
    """Position embeddings: learned, or the fixed sinusoids of Vaswani et al. 2017."""


def block(
    config: TransformerConfig,
    residual: Residual = pre_norm,
    activation: Activation = gelu_tanh,
    mask: AttentionMask | None = None,
) -> Block:
    """One layer. GPT-1, GPT-3 and RoBERTa differ in these arguments and in nothing else."""
    attention = Attention(
        config.d_model,
        config.heads,
        mask=mask or AttentionMask(causal=True),
        dropout=config.dropout,
        attention_dropout=config.dropout,
    )
    # (B, T, C) -> (B, T, F) -> (B, T, C)
    mlp = MLP(config.d_model, config.ff_size, activation, dropout=config.dropout)
    norms = LayerNorm(config.d_model, config.norm_eps), LayerNorm(config.d_model, config.norm_eps)
    return Block(residual, attention, norms[0], mlp, norms[1])


def init_rules(config: BaseConfig) -> list[tuple[str, Rule]]:
    """0.02 everywhere, residual outputs smaller by the root of their number (section 2.3)."""
    residual = normal(0.02 / (2 * config.layers) ** 0.5)
    return [
        ("norm.weight", ones),
        ("bias", zeros),
        ("out.weight", residual),
        ("down.weight", residual),
        ("weight", normal(0.02)),
    ]


def _dropouts(config: Any) -> dict[str, Any]:
    return dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), config.dropout)


SIZES = (
    row("vocab_size", "vocab_size"),
    Row(
        ("context_length",),
        lambda hf, _: {"context_length": integer(hf, "n_positions", "n_ctx")},
        # early releases read the second name
        lambda config: dict.fromkeys(("n_positions", "n_ctx"), config.context_length),
    ),
    row("d_model", "n_embd"),
    row("layers", "n_layer"),
    row("heads", "n_head"),
    row("norm_eps", "layer_norm_epsilon", number, 1e-5),
    row("tie_embeddings", "tie_word_embeddings", boolean, True),
    Row(
        ("dropout",),
        lambda hf, _: {"dropout": number(hf, "resid_pdrop", default=0.1)},
        _dropouts,
    ),
)
"""What GPT-1 and GPT-2 have under the same names in transformers."""

HF_CLASS = HFClass(
    "GPT2LMHeadModel",
    "gpt2",
    (
        *SIZES,
        row("d_ff", "n_inner", optional_integer),
        # the class keeps a table of positions whatever is in it
        Row(("positions",), lambda *_: {}, lambda _: {}),
    ),
    hf_config={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
)


def sinusoidal(config: Config) -> SinusoidalPositions:
    """Sines divided by the root of the width: Vaswani et al. multiply token vectors by it instead
    (section 3.4). Sines of full size drown the tokens, and training finds no words for long."""
    return SinusoidalPositions(config.context_length, config.d_model, scale=config.d_model**-0.5)


def _layer(ours: str, hf: str, *, transposed: bool = False) -> list[WeightName]:
    """Weight and bias of one layer of a block."""
    start, there = f"backbone.blocks.{{n}}.{ours}", f"transformer.h.{{n}}.{hf}"
    return [
        WeightName(f"{start}.weight", f"{there}.weight", transposed=transposed),
        WeightName(f"{start}.bias", f"{there}.bias"),
    ]


BLOCK_WEIGHT_MAP = (
    *_layer("attention_norm", "ln_1"),
    *_layer("attention.qkv", "attn.c_attn", transposed=True),
    *_layer("attention.out", "attn.c_proj", transposed=True),
    *_layer("mlp_norm", "ln_2"),
    *_layer("mlp.up", "mlp.c_fc", transposed=True),
    *_layer("mlp.down", "mlp.c_proj", transposed=True),
)
POSITIONS = "transformer.wpe.weight"


class Model(Architecture):
    """A GPT-2-shaped decoder."""

    config: Config
    HF_CLASSES = (HF_CLASS,)
    HF_WEIGHT_MAP = (
        WeightName("backbone.embed.token.weight", "transformer.wte.weight"),
        WeightName("backbone.embed.position.weight", POSITIONS),
        *BLOCK_WEIGHT_MAP,
        WeightName("backbone.norm.weight", "transformer.ln_f.weight"),
        WeightName("backbone.norm.bias", "transformer.ln_f.bias"),
        WeightName("head.weight", "lm_head.weight"),
    )

    def __init__(self, config: Config) -> None:
        # learned positions are a parameter, sinusoidal ones a buffer that is not stored
        learned = config.positions == "learned"
        position = (
            LearnedPositions(config.context_length, config.d_model)
            if learned
            else sinusoidal(config)
        )
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [block(config) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, LayerNorm(config.d_model, config.norm_eps))

    def init_weights(self) -> None:
        init_weights(self, init_rules(self.config))

    @classmethod
    def to_hf_weights(cls, config: Config, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the table says; sinusoidal positions, which are computed here, are stored there."""
        renamed = super().to_hf_weights(config, weights)
        if config.positions == "sinusoidal":
            renamed[POSITIONS] = sinusoidal(config).table
        return renamed

    @classmethod
    def from_hf_weights(cls, config: Config, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if config.positions == "sinusoidal":
            weights = {name: weights[name] for name in weights if name != POSITIONS}
        return super().from_hf_weights(config, weights)
