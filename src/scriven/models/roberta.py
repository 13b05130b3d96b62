"""RoBERTa (Liu et al. 2019): an encoder that fills gaps, each token seeing all others.

BERT's layers (Devlin et al. 2018): LayerNorm after each sum and on the embedding, learned
positions, GELU. There is one segment, so the vector of token types is part of the positions. Its
task is `masked`, which owns the head. Loads in Hugging Face as RobertaForMaskedLM.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DamagedError
from ..nn.block import Block, post_norm
from ..nn.embeddings import Embedding, LearnedPositions, SinusoidalPositions
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.mask import AttentionMask
from ..nn.norm import LayerNorm
from .base import Architecture, check
from .shared.classic import classic_block
from .shared.hf_config import Theirs, flag, is_kind, number, only, whole
from .shared.weight_map import Name

TASK = "masked"


@dataclass(frozen=True)
class Config:
    """The shape of the model."""

    vocab_size: int = 0
    """Number of tokens, the mask included; set from the tokenizer."""
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
    padding: int | None = None
    """Id of the token that fills a batch; auto: the last but one, as in tokenizers made here."""
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

    @property
    def unused(self) -> int:
        """Rows before the first position in the twin's table: it counts from its padding id + 1."""
        padding = self.vocab_size - 2 if self.padding is None else self.padding
        return max(0, padding) + 1


def block(config: Config) -> Block:
    """One layer; the GELU is the exact one."""
    return classic_block(config, post_norm, F.gelu, AttentionMask(causal=False))


class Model(Architecture):
    """A RoBERTa-shaped encoder."""

    kind = "encoder"
    config: Config

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        norm = LayerNorm(config.d_model, config.norm_eps)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout, norm=norm)
        blocks = [block(config) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, nn.Identity())

    @torch.no_grad()
    def init_weights(self) -> None:
        """BERT's, 0.02 everywhere, but for positions: they begin as sines (and are learned on).

        A hidden token says nothing about itself, so nothing can be learned before attention finds
        its neighbours; with random positions a small model looked for them for a whole short
        budget (LOG.md).
        """
        init_weights(self, [("norm.weight", ones), ("bias", zeros), ("weight", normal(0.02))])
        sines = SinusoidalPositions(self.config.context_length, self.config.d_model, scale=0.06)
        self.embed.position.weight.copy_(sines.table)  # type: ignore[union-attr,operator]


LAYER = "roberta.encoder.layer.{n}."
POSITIONS = "roberta.embeddings.position_embeddings.weight"
TYPES = "roberta.embeddings.token_type_embeddings.weight"

NAMES = (
    Name("backbone.embed.token.weight", "roberta.embeddings.word_embeddings.weight"),
    Name("backbone.embed.position.weight", POSITIONS),
    Name("backbone.embed.norm.weight", "roberta.embeddings.LayerNorm.weight"),
    Name("backbone.embed.norm.bias", "roberta.embeddings.LayerNorm.bias"),
    *(
        Name(
            f"backbone.blocks.{{n}}.attention.qkv.{kind}",
            tuple(f"{LAYER}attention.self.{part}.{kind}" for part in ("query", "key", "value")),
            parts="qkv",
        )
        for kind in ("weight", "bias")
    ),
    *(
        Name(f"backbone.blocks.{{n}}.{ours}.{kind}", f"{LAYER}{theirs}.{kind}")
        for ours, theirs in (
            ("attention.out", "attention.output.dense"),
            ("attention_norm", "attention.output.LayerNorm"),
            ("mlp.up", "intermediate.dense"),
            ("mlp.down", "output.dense"),
            ("mlp_norm", "output.LayerNorm"),
        )
        for kind in ("weight", "bias")
    ),
    Name("head.dense.weight", "lm_head.dense.weight"),
    Name("head.dense.bias", "lm_head.dense.bias"),
    Name("head.norm.weight", "lm_head.layer_norm.weight"),
    Name("head.norm.bias", "lm_head.layer_norm.bias"),
    Name("head.weight", "lm_head.decoder.weight"),
    Name("head.bias", "lm_head.bias"),
)


def complete(config: Config, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds what the twin stores beside ours: unused rows of positions, one token type of zeros,
    and, untied, the head's bias under the name that is read then."""
    positions = theirs[POSITIONS]
    zeros = positions.new_zeros(config.unused, config.d_model)
    found = {**theirs, POSITIONS: torch.cat((zeros, positions)), TYPES: zeros[:1].clone()}
    if not config.tie_embeddings:
        found["lm_head.decoder.bias"] = theirs["lm_head.bias"].clone()
    return found


def reduce(config: Config, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `complete`; the one token type is added to every position."""
    found = dict(theirs)
    for name in (POSITIONS, TYPES):
        if name not in found:
            raise DamagedError(f"weights lack {name}")
    found[POSITIONS] = found[POSITIONS][config.unused :] + found.pop(TYPES)
    if "lm_head.decoder.bias" in found:
        found["lm_head.bias"] = found.pop("lm_head.decoder.bias")
    return found


def sizes(config: Config) -> dict[str, list[int]]:
    """Where fused matrices are cut for NAMES."""
    return {"qkv": [config.d_model] * 3}


def foreign(config: Config) -> dict[str, Any]:
    """Hugging Face's config.json."""
    return {
        "architectures": ["RobertaForMaskedLM"],
        "model_type": "roberta",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.unused + config.context_length,
        "type_vocab_size": 1,
        "pad_token_id": config.unused - 1,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.d_ff or 4 * config.d_model,
        "hidden_act": "gelu",
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }


def adopt(theirs: Theirs) -> dict[str, Any] | None:
    """The fields of Config that a Hugging Face config.json asks for; None where it is no RoBERTa.

    Raises:
        SettingError: names the field that this file cannot express.
    """
    if not is_kind(theirs, "RobertaForMaskedLM", "roberta"):
        return None
    usual = {"type_vocab_size": 2, **theirs}
    only(
        usual,
        hidden_act=("gelu",),
        type_vocab_size=(1,),
        position_embedding_type=("absolute",),
        is_decoder=(False,),
        add_cross_attention=(False,),
    )
    padding = whole(theirs, "pad_token_id", default=1)
    return {
        "vocab_size": whole(theirs, "vocab_size"),
        "context_length": whole(theirs, "max_position_embeddings") - padding - 1,
        "layers": whole(theirs, "num_hidden_layers"),
        "heads": whole(theirs, "num_attention_heads"),
        "d_model": whole(theirs, "hidden_size"),
        "d_ff": whole(theirs, "intermediate_size"),
        "dropout": number(theirs, "hidden_dropout_prob", default=0.1),
        "tie_embeddings": flag(theirs, "tie_word_embeddings", True),
        "padding": padding,
        "norm_eps": number(theirs, "layer_norm_eps", default=1e-12),
    }
