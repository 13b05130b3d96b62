"""GPT-NeoX (Black et al. 2022) and Pythia: attention and feed-forward layer side by side.

LayerNorm, rotary positions on a part of each head, GELU, biases, and an output matrix of its own.
Loads in Hugging Face as GPTNeoXForCausalLM.
"""

from dataclasses import dataclass
from typing import Any, Literal

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.block import ACTIVATIONS, MLP, Block, ParallelBlock, init_weights, pre_norm
from ..nn.embeddings import AttentionMask, Embedding, RotaryEmbedding
from ..nn.norm import LayerNorm
from ..nn.rope_scaling import RopeScaling
from .base import Architecture, TransformerConfig
from .gpt2 import init_rules
from .shared.hf_config import (
    Fields,
    HFClass,
    HFConfig,
    Row,
    activation_row,
    boolean,
    number,
    read_rope,
    row,
    write_rope,
)
from .shared.weight_map import FusedSizes, WeightName


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    tie_embeddings: bool = False
    """Share the embedding matrix with the output layer."""
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu"
    """Activation function of the feed-forward layer."""
    parallel: bool = True
    """Attention and feed-forward layer read the same input, not one the output of the other."""
    attention_bias: bool = True
    """Biases in attention."""
    rope_theta: float = 10000.0
    """Base of the rotary frequencies (RoPE)."""
    rope_scaling: str | None = None
    """Scaling of RoPE beyond the context of pre-training, such as linear:factor=2."""
    rope_fraction: float = 0.25
    """Part of each head that is rotated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rope_fraction > 1 or self.head_size < 2:
            raise SettingError(
                f"--model.rope_fraction={self.rope_fraction} of heads of size {self.head_size}: "
                "up to 1 of at least 2 dimensions can be rotated"
            )
        if self.rope_scaling is not None:
            RopeScaling.parse(self.rope_scaling)

    @property
    def rotated(self) -> int:
        """Dimensions of each head that are rotated, in pairs."""
        return max(2, int(self.head_size * self.rope_fraction) // 2 * 2)


def block(config: Config, rotation: RotaryEmbedding) -> Block:
    """One layer."""
    attention = Attention(
        config.d_model,
        config.heads,
        bias=config.attention_bias,
        mask=AttentionMask(causal=True),
        position=rotation,
        dropout=config.dropout,
    )
    mlp = MLP(config.d_model, config.ff_size, ACTIVATIONS[config.activation], config.dropout)
    norms = LayerNorm(config.d_model, config.norm_eps), LayerNorm(config.d_model, config.norm_eps)
    kind = ParallelBlock if config.parallel else Block
    return kind(pre_norm, attention, norms[0], mlp, norms[1])


def _read_rope(hf_config: HFConfig, known: Fields) -> Fields:
    """Names of their own, until transformers 5."""
    old = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    given = {name: hf_config[hf_name] for name, hf_name in old.items() if hf_name in hf_config}
    return read_rope({**given, **hf_config}, fraction=0.25)


def _write_rope(config: Any) -> Fields | None:
    if config.rotated != int(config.head_size * config.rope_fraction):  # as it is rounded there
        return None
    rope = write_rope(config.rope_theta, config.rope_scaling, config.rope_fraction)
    return {**rope, "rotary_emb_base": config.rope_theta, "rotary_pct": config.rope_fraction}


HF = "gpt_neox.layers.{n}"
_LAYERS = {
    "attention_norm": "input_layernorm",
    "attention.out": "attention.dense",
    "mlp_norm": "post_attention_layernorm",
    "mlp.up": "mlp.dense_h_to_4h",
    "mlp.down": "mlp.dense_4h_to_h",
}


def _weights(kind: str) -> list[WeightName]:
    """The weights or the biases of a block, and of the last norm."""
    ours, qkv = "backbone.blocks.{n}", f"{HF}.attention.query_key_value.{kind}"
    names = [
        WeightName(f"{ours}.{here}.{kind}", f"{HF}.{hf}.{kind}") for here, hf in _LAYERS.items()
    ]
    return [
        *names,
        WeightName(f"{ours}.attention.qkv.{kind}", qkv, interleaved="parts and heads"),
        WeightName(f"backbone.norm.{kind}", f"gpt_neox.final_layer_norm.{kind}"),
    ]


class Model(Architecture):
    """A GPT-NeoX-shaped decoder."""

    config: Config
    position_kind = "rotary"
    grows_context = True
    HF_CLASSES = (
        HFClass(
            "GPTNeoXForCausalLM",
            "gpt_neox",
            (
                row("vocab_size", "vocab_size"),
                row("context_length", "max_position_embeddings"),
                row("layers", "num_hidden_layers"),
                row("heads", "num_attention_heads"),
                row("d_model", "hidden_size"),
                row("d_ff", "intermediate_size", value="ff_size"),
                row("norm_eps", "layer_norm_eps", number, 1e-5),
                row("tie_embeddings", "tie_word_embeddings", boolean, False),
                row("parallel", "use_parallel_residual", boolean, True),
                row("attention_bias", "attention_bias", boolean, True),
                row("dropout", "hidden_dropout", number, 0),
                activation_row("hidden_act", "gelu"),
                Row(("rope_theta", "rope_scaling", "rope_fraction"), _read_rope, _write_rope),
            ),
            written={"attention_dropout": 0.0},
        ),
    )
    HF_WEIGHT_MAP = (
        WeightName("backbone.embed.token.weight", "gpt_neox.embed_in.weight"),
        *_weights("weight"),
        *_weights("bias"),
        WeightName("head.weight", "embed_out.weight"),
    )

    def __init__(self, config: Config) -> None:
        embed = Embedding(config.vocab_size, config.d_model, dropout=config.dropout)
        scaling = None if config.rope_scaling is None else RopeScaling.parse(config.rope_scaling)
        # all layers have the same positions, and share the tables
        rotation = RotaryEmbedding(
            config.head_size, config.context_length, config.rope_theta, config.rotated, scaling
        )
        blocks = [block(config, rotation) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, LayerNorm(config.d_model, config.norm_eps))

    def init_weights(self) -> None:
        init_weights(self, init_rules(self.config))

    @classmethod
    def fused_sizes(cls, config: Config) -> FusedSizes:
        return {"parts and heads": [3, config.heads]}
