"""The default: Llama's block (Touvron et al. 2023) with Qwen3's query/key norm.

RMSNorm before each sublayer, rotary positions, grouped key/value heads, a gated feed-forward layer,
no biases. The fields of Config also make its descendants: Llama 2 and 3, SmolLM, Qwen 2 and 3,
Mistral, Phi-3, OLMo 2 and Gemma; shared/llama_hf.py says which class of transformers each is.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.block import (
    ACTIVATIONS,
    Block,
    GatedMLP,
    NormPair,
    Residual,
    Rule,
    init_weights,
    normal,
    output_norm,
    pre_norm,
    sandwich_norm,
    zeros,
)
from ..nn.embeddings import AttentionMask, Embedding, RotaryEmbedding
from ..nn.norm import RMSNorm
from ..nn.rope_scaling import RopeScaling
from .base import Architecture, TransformerConfig, expand_layer_types
from .shared.hf_config import HFClass
from .shared.weight_map import FusedSizes, WeightName

KINDS = ("full", "sliding", "nope")
"""Kinds of layers in `layer_types`."""
RESIDUALS: dict[str, Residual] = {"pre": pre_norm, "output": output_norm, "both": sandwich_norm}
"""By `norm_position`."""

OURS, HF = "backbone.blocks.{n}.", "model.layers.{n}."
NORMS = {
    "pre": {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"},
    "output": {
        "attention_norm": "post_attention_layernorm",
        "mlp_norm": "post_feedforward_layernorm",
    },
    "both": {
        "attention_norm.before": "input_layernorm",
        "attention_norm.after": "post_attention_layernorm",
        "mlp_norm.before": "pre_feedforward_layernorm",
        "mlp_norm.after": "post_feedforward_layernorm",
    },
}
"""By `norm_position`; the same name means another norm in each."""

SPLIT = {
    "attention.qkv": ("self_attn.q", "self_attn.k", "self_attn.v"),
    "mlp.gate_up": ("mlp.gate", "mlp.up"),
}
"""Our fused matrices and their parts."""


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    heads: int = 4
    """Query heads per block."""
    kv_heads: int | None = None
    """Key/value heads; fewer than heads (GQA) shrink the KV cache. auto: as many as heads."""
    head_dim: int | None = None
    """Dimension of each head; auto: d_model / heads."""
    d_ff: int | None = None
    """Hidden size of the gated layer; auto: 8/3 d_model, rounded up to a multiple of 32."""
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    """Activation function of the gate; silu is SwiGLU."""
    dropout: float = 0.0
    """Dropout probability of sublayer outputs."""
    qk_norm: bool | Literal["all"] = True
    """Normalize queries and keys with RMSNorm: each head (Qwen3), or all together (OLMo 2)."""
    rope_theta: float = 10000.0
    """Base of the rotary frequencies (RoPE)."""
    rope_scaling: str | None = None
    """Scaling of RoPE beyond the context of pre-training: linear, dynamic, llama3 or yarn with its
    numbers, such as linear:factor=2."""
    rope_fraction: float = 1.0
    """Part of each head that is rotated."""
    window: int | None = None
    """Attention window of sliding layers, in tokens."""
    layer_types: str = "full"
    """Kinds of layers, separated by commas and repeated: full, sliding (attends to the last
    `window` tokens) or nope (no position encoding)."""
    sliding_rope_theta: float | None = None
    """Base of the rotary frequencies of sliding layers (Gemma 3); auto: as of the others."""
    attention_bias: bool | Literal["qkv"] = False
    """Biases in attention: everywhere, or of queries, keys and values alone (Qwen 2)."""
    mlp_bias: bool = False
    """Biases in the feed-forward layer."""
    norm_position: Literal["pre", "output", "both"] = "pre"
    """Norm before each sublayer, on its output (OLMo 2), or both (Gemma 2)."""
    norm_offset: bool = False
    """Store the weights of norms as differences from 1 (Gemma)."""
    norm_eps: float = 1e-6
    """Epsilon of the normalization layers."""
    attention_softcap: float | None = None
    """Largest absolute attention score, reached smoothly (Gemma 2); none: no limit."""
    logit_softcap: float | None = None
    """Largest absolute logit, reached smoothly (Gemma 2); none: no limit."""
    query_pre_attn_scalar: int | None = None
    """Attention scores are divided by its root (Gemma); auto: head_dim."""
    scale_embeddings: bool = False
    """Multiply token vectors by sqrt(d_model) (Gemma)."""
    hf_class: str | None = None
    """Class of transformers that the model is saved as; auto: the first that can express it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads % (self.kv_heads or self.heads):
            raise SettingError(
                f"--model.kv_heads={self.kv_heads} must divide --model.heads={self.heads}"
            )
        if self.rotated % 2 or not 0 < self.rotated <= self.head_size:
            part = "" if self.rope_fraction == 1 else " or --model.rope_fraction"
            raise SettingError(
                f"rotary positions need heads of even size, not {self.rotated}: "
                f"change --model.d_model, --model.heads or --model.head_dim{part}"
            )
        if "sliding" in self.kinds and self.window is None:
            raise SettingError(f"--model.layer_types={self.layer_types} needs --model.window")
        if self.rope_scaling is not None:
            RopeScaling.parse(self.rope_scaling)
        if self.hf_class is not None:
            known = [each.name for each in Model.hf_classes()]
            if self.hf_class not in known:
                text = f"--model.hf_class={self.hf_class}: known are {', '.join(known)}"
                raise SettingError(text)

    @property
    def ff_size(self) -> int:
        return self.d_ff or -(-8 * self.d_model // 3 // 32) * 32

    @property
    def score_size(self) -> int:
        """Attention scores are divided by the root of it."""
        return self.query_pre_attn_scalar or self.head_size

    @property
    def rotated(self) -> int:
        """Dimensions of each head that are rotated."""
        return int(self.head_size * self.rope_fraction)

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer."""
        return expand_layer_types(self.layer_types, self.layers, KINDS)


def norm(config: Config, size: int | None = None) -> RMSNorm:
    """RMSNorm over `size` numbers, `d_model` by default."""
    return RMSNorm(size or config.d_model, config.norm_eps, float(config.norm_offset))


def block(config: Config, kind: str, position: RotaryEmbedding | None) -> Block:
    """One layer."""
    heads, kv_heads, size = config.heads, config.kv_heads or config.heads, config.head_size
    hides = kind == "sliding" and (config.window or 0) < config.context_length
    score_size = config.query_pre_attn_scalar or size
    normed = size if config.qk_norm != "all" else None
    attention = Attention(
        config.d_model,
        heads,
        kv_heads=kv_heads,
        head_dim=size,
        bias=bool(config.attention_bias),
        out_bias=config.attention_bias is True,
        mask=AttentionMask(causal=True, window=config.window if hides else None),
        position=position,
        query_norm=norm(config, normed or heads * size) if config.qk_norm else None,
        key_norm=norm(config, normed or kv_heads * size) if config.qk_norm else None,
        scale=None if score_size == size else score_size**-0.5,
        softcap=config.attention_softcap,
        dropout=config.dropout,
    )
    # SwiGLU: silu(x G) * x U
    activation = ACTIVATIONS[config.activation]
    mlp = GatedMLP(config.d_model, config.ff_size, activation, config.dropout, config.mlp_bias)
    norms: list[nn.Module] = [norm(config), norm(config)]
    if config.norm_position == "both":
        norms = [NormPair(each, norm(config)) for each in norms]
    return Block(RESIDUALS[config.norm_position], attention, norms[0], mlp, norms[1])


class Model(Architecture):
    """A Llama-shaped decoder."""

    config: Config
    position_kind = "rotary"
    grows_context = True

    def __init__(self, config: Config) -> None:
        scale = config.d_model**0.5 if config.scale_embeddings else 1.0
        embed = Embedding(config.vocab_size, config.d_model, scale=scale)
        # the position encoding of each kind of layer, whose layers share it and its tables
        size, length, rotated = config.head_size, config.context_length, config.rotated
        scaling = None if config.rope_scaling is None else RopeScaling.parse(config.rope_scaling)
        full = sliding = RotaryEmbedding(size, length, config.rope_theta, rotated, scaling)
        if config.sliding_rope_theta is not None:
            sliding = RotaryEmbedding(size, length, config.sliding_rope_theta, rotated)
        positions = {"full": full, "sliding": sliding, "nope": None}
        blocks = [block(config, kind, positions[kind]) for kind in config.kinds]
        super().__init__(config, embed, blocks, norm(config))
        self.logit_softcap = config.logit_softcap

    def init_weights(self) -> None:
        """Output projections start at zero, so every block starts as the identity."""
        one: Rule = partial(nn.init.constant_, val=1.0 - self.config.norm_offset)
        table = [
            ("norm.weight", one),
            ("before.weight", one),
            ("after.weight", one),
            ("bias", zeros),
            ("out.weight", zeros),
            ("down.weight", zeros),
            ("token.weight", normal(0.02)),
            ("weight", normal(self.config.d_model**-0.5)),
        ]
        init_weights(self, table)

    @classmethod
    def hf_classes(cls) -> tuple[HFClass, ...]:
        from .shared.llama_hf import CLASSES  # tables that a model of our own does without

        return CLASSES

    @classmethod
    def hf_weight_map(cls, config: Config) -> tuple[WeightName, ...]:
        fused = False
        if config.hf_class is not None or config.rope_fraction != 1:  # any other is no Phi-3
            fused = (cls.to_hf_config(config) or {}).get("model_type") == "phi3"
        return weight_map(config.norm_position, fused=fused)

    @classmethod
    def fused_sizes(cls, config: Config) -> FusedSizes:
        # rows of the fused matrices, in the order of the weight map
        queries = config.heads * config.head_size
        keys = (config.kv_heads or config.heads) * config.head_size
        return {"qkv": [queries, keys, keys], "gate_up": [config.ff_size] * 2}


def weight_map(norm_position: str, *, fused: bool = False) -> tuple[WeightName, ...]:
    """The names of the weights; `fused` where queries, keys and values are one matrix there too."""
    if fused:
        joint = [("attention.qkv", "self_attn.qkv_proj"), ("mlp.gate_up", "mlp.gate_up_proj")]
        parts = [WeightName(f"{OURS}{ours}.weight", f"{HF}{hf}.weight") for ours, hf in joint]
    else:
        parts = [
            WeightName(
                f"{OURS}{ours}.{kind}",
                tuple(f"{HF}{hf}_proj.{kind}" for hf in names),
                parts=ours.rpartition(".")[2],
            )
            for ours, names in SPLIT.items()
            for kind in ("weight", "bias")
        ]
    single = {
        "attention.query_norm": "self_attn.q_norm",
        "attention.key_norm": "self_attn.k_norm",
        "attention.out": "self_attn.o_proj",
        "mlp.down": "mlp.down_proj",
        **NORMS[norm_position],
    }
    return (
        WeightName("backbone.embed.token.weight", "model.embed_tokens.weight"),
        *parts,
        *(WeightName(f"{OURS}{ours}.{kind}", f"{HF}{hf}.{kind}")
          for ours, hf in single.items() for kind in ("weight", "bias")),
        WeightName("backbone.norm.weight", "model.norm.weight"),
        WeightName("head.weight", "lm_head.weight"),
    )  # fmt: skip
