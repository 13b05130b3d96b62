"""The default: Llama's block (Touvron et al. 2023) with Qwen3's query/key norm.

RMSNorm before each sublayer, rotary positions, grouped key/value heads, SwiGLU, no biases. With
`qk_norm` it is Qwen3ForCausalLM to Hugging Face, vLLM and llama.cpp, without it LlamaForCausalLM.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.block import Block, pre_norm
from ..nn.embeddings import Embedding, RotaryEmbedding
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.mask import AttentionMask
from ..nn.mlp import GatedMLP
from ..nn.norm import RMSNorm
from .base import Architecture, check
from .shared.hf_config import Theirs, flag, is_kind, number, only, rope_theta, whole
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
    """Query heads per block."""
    kv_heads: int | None = None
    """Key/value heads; fewer than heads shrink the cache. auto: as many as heads."""
    d_model: int = 128
    """Size of a token's vector."""
    head_dim: int | None = None
    """Size of a head; auto: width / heads."""
    d_ff: int | None = None
    """Size of the feed-forward layer; auto: 8/3 of the width, in steps of 32."""
    dropout: float = 0.0
    """Share of sublayer outputs dropped while training."""
    qk_norm: bool = True
    """RMSNorm of queries and keys (Qwen3)."""
    tie_embeddings: bool = True
    """One matrix for reading and for writing tokens."""
    rope_theta: float = 10000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-6
    """Added under the root of a norm."""

    def __post_init__(self) -> None:
        check(
            self,
            context_length=self.context_length,
            layers=self.layers,
            heads=self.heads,
            d_model=self.d_model,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            d_ff=self.d_ff,
        )
        if self.heads % (self.kv_heads or self.heads):
            raise SettingError(
                f"--model.kv_heads={self.kv_heads} must divide --model.heads={self.heads}"
            )
        if self.size_of_head % 2:
            raise SettingError(
                f"rotary positions need heads of even size, not {self.size_of_head}: "
                "change --model.d_model, --model.heads or --model.head_dim"
            )

    @property
    def size_of_head(self) -> int:
        """D."""
        return self.head_dim or self.d_model // self.heads

    @property
    def size_of_hidden(self) -> int:
        """The feed-forward size in use."""
        return self.d_ff or -(-8 * self.d_model // 3 // 32) * 32


def block(config: Config) -> Block:
    """One layer."""
    eps = config.norm_eps
    attention = Attention(
        config.d_model,
        config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.size_of_head,
        bias=False,
        mask=AttentionMask(causal=True),
        position=RotaryEmbedding(config.size_of_head, config.context_length, config.rope_theta),
        query_norm=RMSNorm(config.size_of_head, eps) if config.qk_norm else None,
        key_norm=RMSNorm(config.size_of_head, eps) if config.qk_norm else None,
        dropout=config.dropout,
    )
    mlp = GatedMLP(config.d_model, config.size_of_hidden, F.silu, dropout=config.dropout)
    norms = RMSNorm(config.d_model, eps), RMSNorm(config.d_model, eps)
    return Block(pre_norm, attention, norms[0], mlp, norms[1])


class Model(Architecture):
    """A Llama-shaped decoder."""

    config: Config

    def __init__(self, config: Config) -> None:
        embed = Embedding(config.vocab_size, config.d_model)
        blocks = [block(config) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, RMSNorm(config.d_model, config.norm_eps))

    def init_weights(self) -> None:
        """Output projections start at zero, so every block starts as the identity."""
        table = [
            ("norm.weight", ones),
            ("out.weight", zeros),
            ("down.weight", zeros),
            ("token.weight", normal(0.02)),
            ("weight", normal(self.config.d_model**-0.5)),
        ]
        init_weights(self, table)


NAMES = (
    Name("backbone.embed.token.weight", "model.embed_tokens.weight"),
    Name("backbone.blocks.{n}.attention_norm.weight", "model.layers.{n}.input_layernorm.weight"),
    Name(
        "backbone.blocks.{n}.attention.qkv.weight",
        (
            "model.layers.{n}.self_attn.q_proj.weight",
            "model.layers.{n}.self_attn.k_proj.weight",
            "model.layers.{n}.self_attn.v_proj.weight",
        ),
        parts="qkv",
    ),
    Name(
        "backbone.blocks.{n}.attention.query_norm.weight",
        "model.layers.{n}.self_attn.q_norm.weight",
    ),
    Name(
        "backbone.blocks.{n}.attention.key_norm.weight",
        "model.layers.{n}.self_attn.k_norm.weight",
    ),
    Name("backbone.blocks.{n}.attention.out.weight", "model.layers.{n}.self_attn.o_proj.weight"),
    Name("backbone.blocks.{n}.mlp_norm.weight", "model.layers.{n}.post_attention_layernorm.weight"),
    Name(
        "backbone.blocks.{n}.mlp.gate_up.weight",
        ("model.layers.{n}.mlp.gate_proj.weight", "model.layers.{n}.mlp.up_proj.weight"),
        parts="gate_up",
    ),
    Name("backbone.blocks.{n}.mlp.down.weight", "model.layers.{n}.mlp.down_proj.weight"),
    Name("backbone.norm.weight", "model.norm.weight"),
    Name("head.weight", "lm_head.weight"),
)


GROWS = True


def sizes(config: Config) -> dict[str, list[int]]:
    """Where fused matrices are cut for NAMES."""
    queries = config.heads * config.size_of_head
    keys = (config.kv_heads or config.heads) * config.size_of_head
    return {"qkv": [queries, keys, keys], "gate_up": [config.size_of_hidden] * 2}


def foreign(config: Config) -> dict[str, Any]:
    """Hugging Face's config.json; old and new names where readers differ."""
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.size_of_hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.size_of_head,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.context_length,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "use_sliding_window": False,
        "tie_word_embeddings": config.tie_embeddings,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
    }


def adopt(theirs: Theirs) -> dict[str, Any] | None:
    """The fields of Config that a Hugging Face config.json asks for; None for another architecture.

    Raises:
        SettingError: names the field that this file cannot express.
    """
    qwen = is_kind(theirs, "Qwen3ForCausalLM", "qwen3")
    if not qwen and not is_kind(theirs, "LlamaForCausalLM", "llama"):
        return None
    only(
        theirs,
        hidden_act=("silu",),
        attention_bias=(False,),
        mlp_bias=(False,),
        use_sliding_window=(False,),
    )
    layers = whole(theirs, "num_hidden_layers")
    if theirs.get("layer_types") not in (None, ["full_attention"] * layers):
        raise SettingError(
            "config.json: layer_types has layers other than full_attention, which this "
            "architecture does not have here"
        )
    heads, d_model = whole(theirs, "num_attention_heads"), whole(theirs, "hidden_size")
    usual = 128 if qwen else d_model // max(1, heads)  # what a missing head_dim means to each
    return {
        "vocab_size": whole(theirs, "vocab_size"),
        "context_length": whole(theirs, "max_position_embeddings"),
        "layers": layers,
        "heads": heads,
        "kv_heads": whole(theirs, "num_key_value_heads", default=heads),
        "d_model": d_model,
        "head_dim": whole(theirs, "head_dim", default=usual),
        "d_ff": whole(theirs, "intermediate_size"),
        "dropout": 0.0,
        "qk_norm": qwen,
        "tie_embeddings": flag(theirs, "tie_word_embeddings", False),
        "rope_theta": rope_theta(theirs),
        "norm_eps": number(theirs, "rms_norm_eps", default=1e-6),
    }
