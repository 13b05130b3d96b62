"""A recurrent network: plain RNN, GRU or LSTM (Elman 1990; Cho et al. 2014; Hochreiter and
Schmidhuber 1997), with dropout between its layers (Zaremba et al. 2014). The baseline of the field.

Its state is one vector for each layer, so it reads texts of any length. No other library of today
can load this model.

A whole segment goes through torch's layers, which are several times as fast as a loop over its
tokens; a single token, as in decoding, goes through the formulas below. Both share their weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import SettingError
from ..nn.block import init_weights, normal, zeros
from ..nn.cache import Cache, LayerCache, RecurrentState
from ..nn.dropout import dropout
from ..nn.embeddings import Embedding, forward_context
from ..nn.lora import LoraAdapter
from .base import Architecture, BaseConfig

Cell = Literal["rnn", "gru", "lstm"]
Parts = tuple[Tensor, ...]
"""The output h (B, C), and the cell c (B, C) of an LSTM."""

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True)
class Config(BaseConfig):
    """The shape of the model."""

    context_length: int = 256
    """Segment length in tokens (truncated BPTT); the state is passed on to the next segment."""
    layers: int = 2
    """Number of recurrent layers."""
    d_model: int = 128
    """Hidden size of each layer."""
    dropout: float = 0.0
    """Dropout probability of embeddings and of each layer's outputs."""
    cell: Cell = "lstm"
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


class RecurrentLayer(nn.Module):
    """One recurrent layer, in one direction."""

    def __init__(self, kind: Cell, inputs: int, d_model: int) -> None:
        super().__init__()
        self.kind, self.d_model = kind, d_model
        self.cell = LAYERS[kind](inputs, d_model, batch_first=True)

    def forward(self, x: Tensor, padding: list[int], state: RecurrentState | None) -> Tensor:
        """x (B, T, inputs) -> (B, T, C).

        Args:
            x: inputs.
            padding: how many positions at the beginning of each row are padding: the state stays
                zero there, and the output means nothing. Empty: no row has any.
            state: of earlier segments; updated by this one.
        """
        # 1. the state before this segment
        if state is not None and state.parts:
            parts = state.parts
        else:
            parts = (x.new_zeros(x.size(0), self.d_model),) * (2 if self.kind == "lstm" else 1)
        with torch.autocast("cpu", enabled=False):  # in bf16 these matmuls take twice as long
            if x.size(1) == 1 and not any(padding):
                # 2. single-token decoding
                parts = self.step(x[:, 0], parts)
                out = parts[0][:, None]  # (B, 1, C)
            else:
                # 2. between two neighbours of `ends` each row is padding as a whole, or not at all
                ends = sorted({*padding, x.size(1)} - {0})
                pieces = []
                for start, end in zip([0, *ends], ends, strict=False):
                    piece, parts = self._segment(x[:, start:end], parts)
                    pieces.append(piece)
                    padded = [length >= end for length in padding]
                    # rows that are still padding start the next piece from zero
                    if any(padded):
                        rows = torch.tensor(padded, device=x.device)[:, None]
                        parts = tuple(part.masked_fill(rows, 0) for part in parts)
                out = torch.cat(pieces, 1)
        # 3. the state after it
        if state is not None:
            state.update(parts)
        return out

    def _segment(self, x: Tensor, parts: Parts) -> tuple[Tensor, Parts]:
        """(B, T, inputs) by torch's layer."""
        first = tuple(part[None].to(x.dtype) for part in parts)  # (1, B, C)
        before = first if self.kind == "lstm" else first[0]
        # torch's layer computes its matmuls inside, so adapters are added to its weights before
        adapted = {name: self._weight(name) for name in self._adapters()}
        out, after = (
            functional_call(self.cell, adapted, (x, before)) if adapted else self.cell(x, before)
        )
        return out, tuple(part[0] for part in (after if self.kind == "lstm" else (after,)))

    def step(self, x: Tensor, parts: Parts) -> Parts:
        """One token (B, inputs) by the formula."""
        hidden = parts[0].to(x.dtype)
        x = F.linear(x, self._weight("weight_ih_l0"), self._weight("bias_ih_l0"))
        h = F.linear(hidden, self._weight("weight_hh_l0"), self._weight("bias_hh_l0"))
        if self.kind == "lstm":
            return lstm(x, h, parts[1])
        # Elman 1990: h' = tanh(x + h)
        return gru(x, h, hidden) if self.kind == "gru" else ((x + h).tanh(),)

    def _weight(self, name: str) -> Tensor:
        """A weight of torch's layer, with the update of its adapter added."""
        weight = cast(Tensor, getattr(self.cell, name))
        lora = self._adapters().get(name)
        return weight if lora is None else weight + lora.delta_weight()

    def _adapters(self) -> Mapping[str, LoraAdapter]:
        """The adapters of torch's layer, by the name of their weight."""
        lora = self.cell._modules.get("lora")
        return {} if lora is None else dict(cast(Any, lora).items())


def gru(x: Tensor, h: Tensor, before: Tensor) -> Parts:
    """h' = (1 - z) n + z h (Cho et al. 2014), where r and z are gates and n = tanh(x_n + r h_n).

    Args:
        x, h: (B, 3 C), projected input and output: r, z, n.
        before: (B, C), the hidden state h itself.
    """
    # (B, C) each; n is the candidate state
    x_r, x_z, x_n = x.chunk(3, -1)
    h_r, h_z, h_n = h.chunk(3, -1)
    reset, keep = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    new = (x_n + reset * h_n).tanh()
    return ((1 - keep) * new + keep * before,)


def lstm(x: Tensor, h: Tensor, cell: Tensor) -> Parts:
    """c' = f c + i g; h' = o tanh(c') (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Args:
        x, h: (B, 4 C), projected input and output: gates i and f, candidate g, gate o.
        cell: (B, C), c.
    """
    # (B, C) each: input gate i, forget gate f, candidate g, output gate o
    write, keep, new, show = (x + h).chunk(4, -1)
    cell = keep.sigmoid() * cell + write.sigmoid() * new.tanh()
    return show.sigmoid() * cell.tanh(), cell
