"""Recurrent layers: plain RNN, GRU and LSTM.

A whole segment goes through torch's layers, which are several times as fast as a loop over its
tokens; a single token, as in decoding, goes through the formulas below. Both share their weights.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .cache import RecurrentState
from .lora import LoraAdapter

Cell = Literal["rnn", "gru", "lstm"]
Parts = tuple[Tensor, ...]
"""The output h (B, C), and the cell c (B, C) of an LSTM."""

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def rnn(x: Tensor, h: Tensor) -> Parts:
    """h' = tanh(x + h) (Elman 1990), from projected input and output, (B, C) each."""
    return ((x + h).tanh(),)


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
        with torch.autocast("cpu", enabled=False):  # in bf16 these matmuls take twice as long
            return self._forward(x, padding, state)

    def _forward(self, x: Tensor, padding: list[int], state: RecurrentState | None) -> Tensor:
        parts = self._zeros(x) if state is None or not state.parts else state.parts
        if x.size(1) == 1 and not any(padding):
            # single-token decoding
            parts = self.step(x[:, 0], parts)
            out = parts[0][:, None]  # (B, 1, C)
        else:
            # between two neighbours of `ends` each row is padding as a whole, or not at all
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
        if state is not None:
            state.update(parts)
        return out

    def _segment(self, x: Tensor, parts: Parts) -> tuple[Tensor, Parts]:
        """(B, T, inputs) by torch's layer."""
        first = tuple(part[None].to(x.dtype) for part in parts)  # (1, B, C)
        before = first if self.kind == "lstm" else first[0]
        adapted = adapted_weights(self.cell)
        out, after = (
            functional_call(self.cell, adapted, (x, before)) if adapted else self.cell(x, before)
        )
        return out, tuple(part[0] for part in (after if self.kind == "lstm" else (after,)))

    def step(self, x: Tensor, parts: Parts) -> Parts:
        """One token (B, inputs) by the formula."""
        cell, h = self.cell, parts[0].to(x.dtype)
        x = F.linear(x, weight_of(cell, "weight_ih_l0"), weight_of(cell, "bias_ih_l0"))
        projected = F.linear(h, weight_of(cell, "weight_hh_l0"), weight_of(cell, "bias_hh_l0"))
        if self.kind == "lstm":
            return lstm(x, projected, parts[1])
        return gru(x, projected, h) if self.kind == "gru" else rnn(x, projected)

    def _zeros(self, x: Tensor) -> Parts:
        zeros = x.new_zeros(x.size(0), self.d_model)
        return (zeros, zeros) if self.kind == "lstm" else (zeros,)


def weight_of(layer: nn.RNNBase, name: str) -> Tensor:
    """A weight of one of torch's layers, with the update of its adapter added."""
    weight = cast(Tensor, getattr(layer, name))
    lora = _adapters_of(layer).get(name)
    return weight if lora is None else weight + lora.delta_weight()


def adapted_weights(layer: nn.RNNBase) -> dict[str, Tensor]:
    """Those weights of one of torch's layers that have an adapter, with its update added.

    The layer computes its matmuls inside, so the sum is made before them.
    """
    return {name: weight_of(layer, name) for name in _adapters_of(layer)}


def _adapters_of(layer: nn.RNNBase) -> Mapping[str, LoraAdapter]:
    """The adapters of a layer, by the name of their weight."""
    lora = layer._modules.get("lora")
    return {} if lora is None else cast(Mapping[str, LoraAdapter], dict(cast(Any, lora).items()))
