"""A recurrent network: plain RNN, GRU or LSTM (Elman 1990; Cho et al. 2014; Hochreiter and
Schmidhuber 1997), with dropout between its layers (Zaremba et al. 2014). The baseline of the field.

Its state is one vector for each layer, so it reads texts of any length. No other library of today
can load this model.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ..errors import SettingError
from ..nn.cache import Cache, LayerCache, RecurrentState
from ..nn.dropout import dropout
from ..nn.embeddings import Embedding
from ..nn.init import init_weights, normal, zeros
from ..nn.mask import forward_context
from ..nn.recurrent import RecurrentLayer
from .base import Architecture, BaseConfig


@dataclass(frozen=True)
class Config(BaseConfig):
    """The shape of the model."""

    context_length: int = 256
    """Segment length in tokens (truncated BPTT); the state is carried to the next segment."""
    layers: int = 2
    """Number of recurrent layers."""
    d_model: int = 128
    """Hidden size of each layer."""
    dropout: float = 0.0
    """Dropout probability of embeddings and of each layer's outputs."""
    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    """Recurrent cell: rnn (plain, tanh), gru or lstm."""
    embedding: int | None = None
    """Embedding dimension; if not d_model, it needs tie_embeddings=false. auto: d_model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tie_embeddings and self.embedding not in (None, self.d_model):
            raise SettingError(
                f"--model.embedding={self.embedding} is not --model.d_model={self.d_model}: "
                "one matrix cannot read and write then, so add --model.tie_embeddings=false"
            )


class Model(Architecture):
    """A stack of recurrent layers."""

    config: Config
    position_kind = "none"
    is_recurrent = True

    def __init__(self, config: Config) -> None:
        size = config.embedding or config.d_model
        embed = Embedding(config.vocab_size, size, dropout=config.dropout)
        blocks = [
            RecurrentLayer(config.cell, config.d_model if number else size, config.d_model)
            for number in range(config.layers)
        ]
        super().__init__(config, embed, blocks, nn.Identity())

    def init_weights(self) -> None:
        """Signals keep their size on the way through, also where an LSTM's gates damp them.

        Found by trial, among them an open forget gate (Jozefowicz et al. 2015), which learned
        more slowly on characters.
        """
        lstm = self.config.cell == "lstm"
        # an LSTM's gates halve a signal, so its inputs are larger
        token, deeper = (0.5, 3.0) if lstm else (0.1, 1.0)
        inputs = self.config.embedding or self.config.d_model
        table = [
            ("token.weight", normal(token)),
            ("blocks.0.cell.weight_ih_l0", normal(inputs**-0.5 / token)),
            ("weight_ih_l0", normal(deeper * self.config.d_model**-0.5)),
            ("weight_hh_l0", nn.init.orthogonal_),
            ("_l0", zeros),
        ]
        init_weights(self, table)

    def forward(
        self, tokens: Tensor, cache: Cache | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, T, C) of tokens (B, T).

        Args:
            tokens: int64.
            cache: the state that earlier calls left behind; updated by this call.
            positions: (T,) or (B, T). Only their sign matters: negative ones are padding on the
                left, where the state stays zero.
        """
        # 1. how many tokens of each row are padding; no row has any where positions are open
        rows = tokens.size(0)
        padding = [] if positions is None else (positions < 0).sum(-1).expand(rows).tolist()
        # 2. embedding, and each layer with its state
        x = self.embed(tokens, forward_context(tokens, positions, 0).positions)
        for number, layer in enumerate(self.blocks):
            x = layer(x, padding, cache.layers[number].recurrent if cache else None)  # (B, T, C)
            x = dropout(x, self.config.dropout, self.training)
        if cache:
            cache.length += tokens.size(1)
        return x  # type: ignore[no-any-return]

    @property
    def max_position(self) -> int | None:
        """No limit."""
        return None

    def recurrent_state(self, batch: int, memory: int | None = None) -> Cache | None:
        """An empty state, whose size is fixed; with a `memory` of 0 there is none."""
        return None if memory == 0 else self.new_cache(batch, 0)

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty state; its size does not depend on the length of the text."""
        return Cache([LayerCache(recurrent=RecurrentState()) for _ in self.blocks])

    @classmethod
    def state_size(cls, config: Config) -> int:
        """The hidden state of each layer, and the cell of an LSTM."""
        return config.layers * config.d_model * (2 if config.cell == "lstm" else 1)
