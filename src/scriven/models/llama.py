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
from .base import Architecture, TransformerConfig
from .shared.hf_config import HFConfig, boolean, integer, is_model, number, require, rope_theta
from .shared.weight_map import FusedSizes, WeightName


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
    """Hidden size of the SwiGLU layer; auto: 8/3 d_model, rounded up to a multiple of 32."""
    dropout: float = 0.0
    """Dropout probability of sublayer outputs."""
    qk_norm: bool = True
    """Normalize queries and keys with RMSNorm (Qwen3)."""
    rope_theta: float = 10000.0
    """Base of the rotary frequencies (RoPE)."""
    norm_eps: float = 1e-6
    """Epsilon of the normalization layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads % (self.kv_heads or self.heads):
            raise SettingError(
                f"--model.kv_heads={self.kv_heads} must divide --model.heads={self.heads}"
            )
        if self.head_size % 2:
            raise SettingError(
                f"rotary positions need heads of even size, not {self.head_size}: "
                "change --model.d_model, --model.heads or --model.head_dim"
            )

    @property
    def ff_size(self) -> int:
        return self.d_ff or -(-8 * self.d_model // 3 // 32) * 32


def block(config: Config) -> Block:
    """One layer."""
    eps, head_size = config.norm_eps, config.head_size
    attention = Attention(
        config.d_model,
        config.heads,
        kv_heads=config.kv_heads,
        head_dim=head_size,
        bias=False,
        mask=AttentionMask(causal=True),
        position=RotaryEmbedding(head_size, config.context_length, config.rope_theta),
        query_norm=RMSNorm(head_size, eps) if config.qk_norm else None,
        key_norm=RMSNorm(head_size, eps) if config.qk_norm else None,
        dropout=config.dropout,
    )
    # SwiGLU: silu(x G) * x U
    mlp = GatedMLP(config.d_model, config.ff_size, F.silu, dropout=config.dropout)
    norms = RMSNorm(config.d_model, eps), RMSNorm(config.d_model, eps)
    return Block(pre_norm, attention, norms[0], mlp, norms[1])


OURS, HF = "backbone.blocks.{n}.", "model.layers.{n}."


class Model(Architecture):
    """A Llama-shaped decoder."""

    config: Config
    position_kind = "rotary"
    grows_context = True
    HF_CLASSES = ("Qwen3ForCausalLM", "LlamaForCausalLM")
    HF_WEIGHT_MAP = (
        WeightName("backbone.embed.token.weight", "model.embed_tokens.weight"),
        WeightName(f"{OURS}attention_norm.weight", f"{HF}input_layernorm.weight"),
        WeightName(
            f"{OURS}attention.qkv.weight",
            tuple(f"{HF}self_attn.{part}_proj.weight" for part in "qkv"),
            parts="qkv",
        ),
        WeightName(f"{OURS}attention.query_norm.weight", f"{HF}self_attn.q_norm.weight"),
        WeightName(f"{OURS}attention.key_norm.weight", f"{HF}self_attn.k_norm.weight"),
        WeightName(f"{OURS}attention.out.weight", f"{HF}self_attn.o_proj.weight"),
        WeightName(f"{OURS}mlp_norm.weight", f"{HF}post_attention_layernorm.weight"),
        WeightName(
            f"{OURS}mlp.gate_up.weight",
            (f"{HF}mlp.gate_proj.weight", f"{HF}mlp.up_proj.weight"),
            parts="gate_up",
        ),
        WeightName(f"{OURS}mlp.down.weight", f"{HF}mlp.down_proj.weight"),
        WeightName("backbone.norm.weight", "model.norm.weight"),
        WeightName("head.weight", "lm_head.weight"),
    )

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

    @classmethod
    def fused_sizes(cls, config: Config) -> FusedSizes:
        # rows of the fused matrices, in the order of the weight map
        queries = config.heads * config.head_size
        keys = (config.kv_heads or config.heads) * config.head_size
        return {"qkv": [queries, keys, keys], "gate_up": [config.ff_size] * 2}

    @classmethod
    def to_hf_config(cls, config: Config) -> dict[str, Any]:
        """Old and new names of a field where readers differ."""
        return {
            "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
            "model_type": "qwen3" if config.qk_norm else "llama",
            "vocab_size": config.vocab_size,
            "hidden_size": config.d_model,
            "intermediate_size": config.ff_size,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads or config.heads,
            "head_dim": config.head_size,
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

    @classmethod
    def from_hf_config(cls, hf_config: HFConfig) -> dict[str, Any] | None:
        # 1. which of the two classes, and nothing that this file cannot express
        qwen = is_model(hf_config, "Qwen3ForCausalLM", "qwen3")
        if not qwen and not is_model(hf_config, "LlamaForCausalLM", "llama"):
            return None
        require(
            hf_config,
            hidden_act=("silu",),
            attention_bias=(False,),
            mlp_bias=(False,),
            use_sliding_window=(False,),
        )
        layers = integer(hf_config, "num_hidden_layers")
        if hf_config.get("layer_types") not in (None, ["full_attention"] * layers):
            raise SettingError(
                "config.json: layer_types has layers other than full_attention, which this "
                "architecture does not have here"
            )
        heads, d_model = (
            integer(hf_config, "num_attention_heads"),
            integer(hf_config, "hidden_size"),
        )
        head_dim = 128 if qwen else d_model // max(1, heads)
        return {
            "vocab_size": integer(hf_config, "vocab_size"),
            "context_length": integer(hf_config, "max_position_embeddings"),
            "layers": layers,
            "heads": heads,
            "kv_heads": integer(hf_config, "num_key_value_heads", default=heads),
            "d_model": d_model,
            "head_dim": integer(hf_config, "head_dim", default=head_dim),
            "d_ff": integer(hf_config, "intermediate_size"),
            "dropout": 0.0,
            "qk_norm": qwen,
            "tie_embeddings": boolean(hf_config, "tie_word_embeddings", False),
            "rope_theta": rope_theta(hf_config),
            "norm_eps": number(hf_config, "rms_norm_eps", default=1e-6),
        }
