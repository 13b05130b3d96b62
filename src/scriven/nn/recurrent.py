"""Recurrent layers: plain RNN, GRU and LSTM.

A whole segment goes through torch's own layers, which are several times as fast as a loop over its
tokens; a single token, as in writing, goes through the formulas below. Both share their weights.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .cache import RecurrentState
from .lora import LoraAdapter

Cell = Literal["rnn", "gru", "lstm"]
Parts = tuple[Tensor, ...]
"""The output h (B, W), and the cell c (B, W) of an LSTM."""

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def rnn(x: Tensor, h: Tensor) -> Parts:
    """h' = tanh(x + h) (Elman 1990), from projected input and output, (B, W) each."""
    return ((x + h).tanh(),)


def gru(x: Tensor, h: Tensor, before: Tensor) -> Parts:
    """h' = (1 - z) n + z h (Cho et al. 2014), where r and z are gates and n = tanh(x_n + r h_n).

    Args:
        x, h: (B, 3 W), projected input and output: r, z, n.
        before: (B, W), the output h itself.
    """
    x_r, x_z, x_n = x.chunk(3, -1)
    h_r, h_z, h_n = h.chunk(3, -1)
    reset, keep = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    new = (x_n + reset * h_n).tanh()
    return ((1 - keep) * new + keep * before,)


def lstm(x: Tensor, h: Tensor, cell: Tensor) -> Parts:
    """c' = f c + i g; h' = o tanh(c') (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Args:
        x, h: (B, 4 W), projected input and output: gates i and f, candidate g, gate o.
        cell: (B, W), c.
    """
    write, keep, new, show = (x + h).chunk(4, -1)
    cell = keep.sigmoid() * cell + write.sigmoid() * new.tanh()
    return show.sigmoid() * cell.tanh(), cell


class RecurrentLayer(nn.Module):
    """One recurrent layer, in one direction."""

    def __init__(self, kind: Cell, inputs: int, d_model: int) -> None:
        super().__init__()
        self.kind, self.d_model = kind, d_model
        self.cell = LAYERS[kind](inputs, d_model, batch_first=True)

    def forward(self, x: Tensor, gaps: list[int], memory: RecurrentState | None) -> Tensor:
        """x (B, T, inputs) -> (B, T, W).

        Args:
            gaps: of each row, how many places at its beginning are padding: there nothing is
                remembered, and what comes out means nothing. Empty: no row has any.
            memory: what was read before; afterwards it holds this segment, too.
        """
        with torch.autocast("cpu", enabled=False):  # in bf16 these products take twice as long
            return self._read(x, gaps, memory)

    def _read(self, x: Tensor, gaps: list[int], memory: RecurrentState | None) -> Tensor:
        parts = self._nothing(x) if memory is None or not memory.parts else memory.parts
        if x.size(1) == 1 and not any(gaps):
            parts = self.step(x[:, 0], parts)
            out = parts[0][:, None]
        else:
            # between two neighbours of `ends` each row is padding as a whole, or not at all
            ends = sorted({*gaps, x.size(1)} - {0})
            pieces = []
            for start, end in zip([0, *ends], ends, strict=False):
                piece, parts = self._segment(x[:, start:end], parts)
                pieces.append(piece)
                padded = [gap >= end for gap in gaps]
                if any(padded):
                    empty = torch.tensor(padded, device=x.device)[:, None]
                    parts = tuple(part.masked_fill(empty, 0) for part in parts)
            out = torch.cat(pieces, 1)
        if memory is not None:
            memory.update(parts)
        return out

    def _segment(self, x: Tensor, parts: Parts) -> tuple[Tensor, Parts]:
        """(B, T, inputs) by torch's layer."""
        given = tuple(part[None].to(x.dtype) for part in parts)
        before = given if self.kind == "lstm" else given[0]
        changed = adapted(self.cell)
        out, after = (
            functional_call(self.cell, changed, (x, before)) if changed else self.cell(x, before)
        )
        parts = tuple(part[0] for part in (after if self.kind == "lstm" else (after,)))
        return out, parts

    def step(self, x: Tensor, parts: Parts) -> Parts:
        """One token (B, inputs) by the formula."""
        cell, output = self.cell, parts[0].to(x.dtype)
        inputs = nn.functional.linear(x, weight(cell, "weight_ih_l0"), weight(cell, "bias_ih_l0"))
        outputs = nn.functional.linear(
            output, weight(cell, "weight_hh_l0"), weight(cell, "bias_hh_l0")
        )
        if self.kind == "lstm":
            return lstm(inputs, outputs, parts[1])
        return gru(inputs, outputs, output) if self.kind == "gru" else rnn(inputs, outputs)

    def _nothing(self, x: Tensor) -> Parts:
        zeros = x.new_zeros(x.size(0), self.d_model)
        return (zeros, zeros) if self.kind == "lstm" else (zeros,)


def weight(layer: nn.RNNBase, name: str) -> Tensor:
    """A weight of one of torch's layers, with what an adapter adds to it."""
    found = cast(Tensor, getattr(layer, name))
    lora = loras(layer).get(name)
    return found if lora is None else found + lora.full()


def adapted(layer: nn.RNNBase) -> dict[str, Tensor]:
    """Those weights of one of torch's layers that have an adapter, with what it adds to them.

    The layer keeps its products to itself, so the sum is made before them.
    """
    return {name: weight(layer, name) for name in loras(layer)}


def loras(layer: nn.RNNBase) -> Mapping[str, LoraAdapter]:
    """The adapters of a layer, by the name of their weight."""
    found = layer._modules.get("lora")
    return {} if found is None else cast(Mapping[str, LoraAdapter], dict(cast(Any, found).items()))
