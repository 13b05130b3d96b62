"""RoBERTa (Liu et al. 2019): an encoder that fills gaps, each token seeing all others.

BERT's layers (Devlin et al. 2018): LayerNorm after each sum and on the embedding, learned
positions, GELU. There is one segment, so the vector of token types is part of the positions. Its
task is `masked`, which has the head. Loads in Hugging Face as RobertaForMaskedLM.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DamagedError
from ..nn.block import post_norm
from ..nn.embeddings import Embedding, LearnedPositions, SinusoidalPositions
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.mask import AttentionMask
from ..nn.norm import LayerNorm
from .base import Architecture, TransformerConfig
from .gpt2 import block
from .shared.hf_config import HFConfig, boolean, integer, is_model, number, require
from .shared.weight_map import FusedSizes, WeightName


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    MAY_BE_ZERO = ("vocab_size", "padding")

    vocab_size: int = 0
    """Number of tokens, the mask included; set from the tokenizer."""
    padding: int | None = None
    """Id of the padding token; auto: the last but one, as in Scriven's tokenizers."""

    @property
    def unused_positions(self) -> int:
        """Rows before the first position in Hugging Face's table: it counts from padding id + 1."""
        padding = self.vocab_size - 2 if self.padding is None else self.padding
        return max(0, padding) + 1


HF = "roberta.encoder.layer.{n}."
POSITIONS = "roberta.embeddings.position_embeddings.weight"
TYPES = "roberta.embeddings.token_type_embeddings.weight"


def _block_weight_map(kind: str) -> list[WeightName]:
    """The weights, or the biases, of one block."""
    qkv = tuple(f"{HF}attention.self.{part}.{kind}" for part in ("query", "key", "value"))
    names = {
        "attention.out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "mlp.up": "intermediate.dense",
        "mlp.down": "output.dense",
        "mlp_norm": "output.LayerNorm",
    }
    start = "backbone.blocks.{n}."
    rows = [WeightName(f"{start}attention.qkv.{kind}", qkv, parts="qkv")]
    rows += [WeightName(f"{start}{ours}.{kind}", f"{HF}{hf}.{kind}") for ours, hf in names.items()]
    return rows


class Model(Architecture):
    """A RoBERTa-shaped encoder."""

    kind = "encoder"
    pretraining_task = "masked"
    config: Config
    HF_CLASSES = ("RobertaForMaskedLM",)
    HF_WEIGHT_MAP = (
        WeightName("backbone.embed.token.weight", "roberta.embeddings.word_embeddings.weight"),
        WeightName("backbone.embed.position.weight", POSITIONS),
        WeightName("backbone.embed.norm.weight", "roberta.embeddings.LayerNorm.weight"),
        WeightName("backbone.embed.norm.bias", "roberta.embeddings.LayerNorm.bias"),
        *_block_weight_map("weight"),
        *_block_weight_map("bias"),
        WeightName("head.dense.weight", "lm_head.dense.weight"),
        WeightName("head.dense.bias", "lm_head.dense.bias"),
        WeightName("head.norm.weight", "lm_head.layer_norm.weight"),
        WeightName("head.norm.bias", "lm_head.layer_norm.bias"),
        WeightName("head.weight", "lm_head.decoder.weight"),
        WeightName("head.bias", "lm_head.bias"),
    )

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        norm = LayerNorm(config.d_model, config.norm_eps)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout, norm=norm)
        mask = AttentionMask(causal=False)
        blocks = [block(config, post_norm, F.gelu, mask) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, nn.Identity())  # a block ends with its norm

    @torch.no_grad()
    def init_weights(self) -> None:
        """BERT's, 0.02 everywhere, but for positions: they begin as sines (and are learned on).

        A masked token says nothing about itself, so nothing can be learned before attention finds
        its neighbours; with random positions a small model took a whole short budget to do so
        (LOG.md).
        """
        init_weights(self, [("norm.weight", ones), ("bias", zeros), ("weight", normal(0.02))])
        sines = SinusoidalPositions(self.config.context_length, self.config.d_model, scale=0.06)
        self.embed.position.weight.copy_(sines.table)  # type: ignore[union-attr,operator]

    @classmethod
    def fused_sizes(cls, config: Config) -> FusedSizes:
        return {"qkv": [config.d_model] * 3}

    @classmethod
    def to_hf_weights(cls, config: Config, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the table says, and what is stored there beside it: unused rows of positions, one
        token type of zeros, and, untied, the head's bias under the name that is read then."""
        renamed = super().to_hf_weights(config, weights)
        # positions count from padding id + 1 there: (unused + context_length, C)
        positions = renamed[POSITIONS]
        unused = positions.new_zeros(config.unused_positions, config.d_model)
        renamed |= {POSITIONS: torch.cat((unused, positions)), TYPES: unused[:1].clone()}
        if not config.tie_embeddings:
            renamed["lm_head.decoder.bias"] = renamed["lm_head.bias"].clone()
        return renamed

    @classmethod
    def from_hf_weights(cls, config: Config, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse; the one token type is added to every position."""
        given = dict(weights)
        for name in (POSITIONS, TYPES):
            if name not in given:
                raise DamagedError(f"weights lack {name}")
        given[POSITIONS] = given[POSITIONS][config.unused_positions :] + given.pop(TYPES)
        if "lm_head.decoder.bias" in given:
            given["lm_head.bias"] = given.pop("lm_head.decoder.bias")
        return super().from_hf_weights(config, given)

    @classmethod
    def to_hf_config(cls, config: Config) -> dict[str, Any]:
        return {
            "architectures": ["RobertaForMaskedLM"],
            "model_type": "roberta",
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.unused_positions + config.context_length,
            "type_vocab_size": 1,
            "pad_token_id": config.unused_positions - 1,
            "hidden_size": config.d_model,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.ff_size,
            "hidden_act": "gelu",
            "layer_norm_eps": config.norm_eps,
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.dropout,
            "tie_word_embeddings": config.tie_embeddings,
        }

    @classmethod
    def from_hf_config(cls, hf_config: HFConfig) -> dict[str, Any] | None:
        if not is_model(hf_config, "RobertaForMaskedLM", "roberta"):
            return None
        require(
            {"type_vocab_size": 2, **hf_config},  # as its class has it where the file is silent
            hidden_act=("gelu",),
            type_vocab_size=(1,),
            position_embedding_type=("absolute",),
            is_decoder=(False,),
            add_cross_attention=(False,),
        )
        padding = integer(hf_config, "pad_token_id", default=1)
        return {
            "vocab_size": integer(hf_config, "vocab_size"),
            "context_length": integer(hf_config, "max_position_embeddings") - padding - 1,
            "layers": integer(hf_config, "num_hidden_layers"),
            "heads": integer(hf_config, "num_attention_heads"),
            "d_model": integer(hf_config, "hidden_size"),
            "d_ff": integer(hf_config, "intermediate_size"),
            "dropout": number(hf_config, "hidden_dropout_prob", default=0.1),
            "tie_embeddings": boolean(hf_config, "tie_word_embeddings", True),
            "padding": padding,
            "norm_eps": number(hf_config, "layer_norm_eps", default=1e-12),
        }
