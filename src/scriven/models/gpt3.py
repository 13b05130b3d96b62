"""GPT-3 (Brown et al. 2020, section 2.1): GPT-2 whose every other layer sees only a band.

Dense, it is a GPT-2, and loads in Hugging Face as GPT2LMHeadModel; with a band it has no
counterpart there.
"""

from dataclasses import dataclass, replace
from typing import Any

from ..nn.block import init_weights
from ..nn.embeddings import AttentionMask, Embedding, LearnedPositions
from ..nn.norm import LayerNorm
from . import gpt2
from .base import Architecture, TransformerConfig
from .shared.hf_config import Row, write_hf_config


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    # Brown et al. do not say how wide their bands are. Child et al. 2019, whose pattern it is, take
    # a stride of 128 for text, whatever the context.
    window: int | None = 128
    """Sliding attention window of every second layer, in tokens; none: all layers are dense."""

    @property
    def band(self) -> int | None:
        """The window, where it hides anything."""
        return self.window if self.window and self.window < self.context_length else None


class Model(Architecture):
    """A GPT-3-shaped decoder."""

    config: Config
    HF_WEIGHT_MAP = gpt2.Model.HF_WEIGHT_MAP

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [
            # layers 0, 2 ... are dense; 1, 3 ... see the last `window` positions
            gpt2.block(config, mask=AttentionMask(window=config.band if layer % 2 else None))
            for layer in range(config.layers)
        ]
        super().__init__(config, embed, blocks, LayerNorm(config.d_model, config.norm_eps))

    def init_weights(self) -> None:
        init_weights(self, gpt2.init_rules(self.config))

    @classmethod
    def to_hf_config(cls, config: Config) -> dict[str, Any] | None:
        """A GPT-2's; None where a layer is banded."""
        banded = config.band is not None and config.layers > 1
        hidden = Row(("window",), lambda *_: {}, lambda _: None if banded else {})
        dense = replace(gpt2.HF_CLASS, rows=(*gpt2.HF_CLASS.rows, hidden))
        return write_hf_config([dense], config)
