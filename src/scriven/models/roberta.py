"""RoBERTa (Liu et al. 2019): an encoder that fills gaps, each token seeing all others.

BERT's layers (Devlin et al. 2018): LayerNorm after each sum and on the embedding, learned
positions, GELU. There is one segment, so the vector of token types is part of the positions. Its
task is `masked`, which has the head. Loads in Hugging Face as RobertaForMaskedLM; BertForMaskedLM
and DistilBertForMaskedLM are the same model under other names (shared/bert_hf.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DamagedError, SettingError
from ..nn.block import init_weights, normal, ones, post_norm, zeros
from ..nn.embeddings import AttentionMask, Embedding, LearnedPositions, SinusoidalPositions
from ..nn.norm import LayerNorm
from .base import Architecture, TransformerConfig
from .gpt2 import block
from .shared.bert_hf import CLASSES, NAMES, ROBERTA, bert_weight_map
from .shared.weight_map import FusedSizes, WeightName


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    MAY_BE_ZERO = ("vocab_size", "padding")

    vocab_size: int = 0
    """Number of tokens, the mask included; set from the tokenizer."""
    padding: int | None = None
    """Id of the padding token; auto: the last but one, as in Scriven's tokenizers."""
    token_types: int = 1
    """Token types in Hugging Face's table; all tokens here are of the first."""
    hf_class: str | None = None
    """Class of transformers that the model is saved as; auto: RobertaForMaskedLM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hf_class not in (None, *NAMES):
            raise SettingError(f"--model.hf_class={self.hf_class}: known are {', '.join(NAMES)}")

    @property
    def padding_id(self) -> int:
        """The padding token's id."""
        return max(0, self.vocab_size - 2 if self.padding is None else self.padding)

    @property
    def unused_positions(self) -> int:
        """Rows before the first position in Hugging Face's table: RoBERTa counts from padding
        id + 1."""
        return self.padding_id + 1 if self.hf_class in (None, ROBERTA) else 0


class Model(Architecture):
    """A RoBERTa-shaped encoder."""

    kind = "encoder"
    pretraining_task = "masked"
    config: Config
    HF_CLASSES = CLASSES

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
    def hf_weight_map(cls, config: Config) -> tuple[WeightName, ...]:
        return bert_weight_map(config.hf_class or ROBERTA)

    @classmethod
    def fused_sizes(cls, config: Config) -> FusedSizes:
        return {"qkv": [config.d_model] * 3}

    @classmethod
    def to_hf_weights(cls, config: Config, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the table says, and what is stored there beside it: unused rows of positions, token
        types of zeros, and, untied, the head's bias under the name that is read then."""
        renamed, names = super().to_hf_weights(config, weights), NAMES[config.hf_class or ROBERTA]
        # RoBERTa's positions count from padding id + 1: (unused + context_length, C)
        positions = renamed[names.positions]
        unused = positions.new_zeros(config.unused_positions, config.d_model)
        renamed[names.positions] = torch.cat((unused, positions))
        if names.types is not None:
            renamed[names.types] = positions.new_zeros(config.token_types, config.d_model)
        if not config.tie_embeddings and names.untied_bias is not None:
            renamed[names.untied_bias] = renamed[names.bias].clone()
        return renamed

    @classmethod
    def from_hf_weights(cls, config: Config, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse; the first token type is added to every position."""
        given, names = dict(weights), NAMES[config.hf_class or ROBERTA]
        for name in (names.positions, names.types):
            if name is not None and name not in given:
                raise DamagedError(f"weights lack {name}")
        positions = given[names.positions][config.unused_positions :]
        types = 0 if names.types is None else given.pop(names.types)[0]
        given[names.positions] = positions + types
        if names.untied_bias in given:
            given[names.bias] = given.pop(names.untied_bias)
        return super().from_hf_weights(config, given)
