"""GPT-Neo (Black et al. 2021): GPT-2's layers, every other one with a window, scores unscaled.

Queries, keys and values have no biases. Loads in Hugging Face as GPTNeoForCausalLM.
"""

from dataclasses import dataclass
from typing import Any, Literal

from ..nn.attention import Attention
from ..nn.block import ACTIVATIONS, MLP, Block, init_weights, pre_norm
from ..nn.embeddings import AttentionMask, Embedding, LearnedPositions
from ..nn.norm import LayerNorm
from .base import Architecture, TransformerConfig, expand_layer_types, shorten_layer_types
from .gpt2 import init_rules
from .shared.hf_config import (
    Fields,
    HFClass,
    HFConfig,
    Row,
    Unsupported,
    activation_row,
    boolean,
    number,
    optional_integer,
    row,
)
from .shared.weight_map import FusedSizes, WeightName

KINDS = {"global": "full", "local": "sliding"}
"""Kinds of layers, there -> here."""


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu_tanh"
    """Activation function of the feed-forward layer."""
    window: int = 256
    """Attention window of sliding layers, in tokens."""
    layer_types: str = "full,sliding"
    """Kinds of layers, separated by commas and repeated: full, or sliding (attends to the last
    `window` tokens)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expand_layer_types(self.layer_types, 1, list(KINDS.values()))

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer."""
        return expand_layer_types(self.layer_types, self.layers, list(KINDS.values()))


def block(config: Config, kind: str) -> Block:
    """One layer."""
    hides = kind == "sliding" and config.window < config.context_length
    attention = Attention(
        config.d_model,
        config.heads,
        bias=False,
        out_bias=True,
        mask=AttentionMask(causal=True, window=config.window if hides else None),
        scale=1.0,
        dropout=config.dropout,
        attention_dropout=config.dropout,
    )
    mlp = MLP(config.d_model, config.ff_size, ACTIVATIONS[config.activation], config.dropout)
    norms = LayerNorm(config.d_model, config.norm_eps), LayerNorm(config.d_model, config.norm_eps)
    return Block(pre_norm, attention, norms[0], mlp, norms[1])


def _read_layers(hf_config: HFConfig, known: Fields) -> Fields:
    """`attention_types` is a list of patterns, each with how often it comes."""
    stored: Any = hf_config.get("attention_types") or [[["global", "local"], 12]]
    try:
        kinds = [KINDS[kind] for pattern, times in stored for kind in list(pattern) * int(times)]
    except (TypeError, ValueError, KeyError) as error:
        raise Unsupported("config.json: attention_types has other kinds of layers") from error
    if len(kinds) != known["layers"]:
        raise Unsupported("config.json: attention_types is not one kind for each layer")
    return {"layer_types": shorten_layer_types(kinds)}


def _write_layers(config: Any) -> Fields:
    hf_kinds = {own: kind for kind, own in KINDS.items()}
    kinds = [hf_kinds[kind] for kind in config.kinds]
    return {"attention_types": [[kinds, 1]], "attention_layers": kinds}


HF = "transformer.h.{n}"
_LAYERS = {
    "attention_norm": "ln_1",
    "attention.out": "attn.attention.out_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}


class Model(Architecture):
    """A GPT-Neo-shaped decoder."""

    config: Config
    HF_CLASSES = (
        HFClass(
            "GPTNeoForCausalLM",
            "gpt_neo",
            (
                row("vocab_size", "vocab_size"),
                row("context_length", "max_position_embeddings"),
                row("layers", "num_layers"),
                row("heads", "num_heads"),
                row("d_model", "hidden_size"),
                row("d_ff", "intermediate_size", optional_integer),
                row("norm_eps", "layer_norm_epsilon", number, 1e-5),
                row("tie_embeddings", "tie_word_embeddings", boolean, True),
                row("window", "window_size", default=256),
                row("dropout", "resid_dropout", number, 0),
                activation_row("activation_function", "gelu_tanh"),
                Row(("layer_types",), _read_layers, _write_layers),
            ),
            written={"embed_dropout": 0.0, "attention_dropout": 0.0},
        ),
    )
    HF_WEIGHT_MAP = (
        WeightName("backbone.embed.token.weight", "transformer.wte.weight"),
        WeightName("backbone.embed.position.weight", "transformer.wpe.weight"),
        WeightName(
            "backbone.blocks.{n}.attention.qkv.weight",
            tuple(f"{HF}.attn.attention.{part}_proj.weight" for part in "qkv"),
            parts="qkv",
        ),
        *(
            WeightName(f"backbone.blocks.{{n}}.{own}.{kind}", f"{HF}.{hf_name}.{kind}")
            for own, hf_name in _LAYERS.items()
            for kind in ("weight", "bias")
        ),
        WeightName("backbone.norm.weight", "transformer.ln_f.weight"),
        WeightName("backbone.norm.bias", "transformer.ln_f.bias"),
        WeightName("head.weight", "lm_head.weight"),
    )

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [block(config, kind) for kind in config.kinds]
        super().__init__(config, embed, blocks, LayerNorm(config.d_model, config.norm_eps))

    def init_weights(self) -> None:
        init_weights(self, init_rules(self.config))

    @classmethod
    def fused_sizes(cls, config: Config) -> FusedSizes:
        return {"qkv": [config.d_model] * 3}
