"""What one attention layer remembers between calls.

One method, `extend(source, at, project)`: `source` (B, T, W) are the new inputs, `project` turns
inputs and positions into keys and values (B, K, T, D), and what comes back are the keys, values
and positions to attend to, old and new together.

`select(rows)` keeps some rows of a batch, in a new order; one may come several times. A beam search
goes on with them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Project = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Memory(Protocol):
    """What attention asks of a memory."""

    only_new: bool
    """Whether it projects nothing but new inputs, so that one product makes queries too."""

    def extend(self, source: Tensor, at: Tensor, project: Project) -> tuple[Tensor, Tensor, Tensor]:
        """(keys (B, K, S, D), values (B, K, S, D), positions (S,) or (B, S))."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keeps the rows (R,), in this order."""
        ...


class KVCache:
    """Projected keys and values, each in the slot of its position: for decoding.

    Rows may stand at different positions. What lies beyond a row's own position is never seen, and
    is written over when the row gets there; so tokens are taken back by going on before them.
    """

    only_new = True

    def __init__(
        self,
        batch: int,
        capacity: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (batch, heads, capacity, head_dim)
        # a slot that is hidden from a row must hold numbers all the same
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0
        """Slots in use by the row that is farthest."""

    def extend(self, source: Tensor, at: Tensor, project: Project) -> tuple[Tensor, Tensor, Tensor]:
        k, v = project(source, at)
        start, new = self.length, source.size(1)
        end = self.length = start + new
        assert end <= self.keys.size(2), "the cache is full; the engine must make room first"
        if at.dim() == 1:
            self.keys.narrow(2, start, new).copy_(k)
            self.values.narrow(2, start, new).copy_(v)
        else:
            rows = torch.arange(len(at), device=at.device)[:, None]
            self.keys[rows, :, at] = k.transpose(1, 2)
            self.values[rows, :, at] = v.transpose(1, 2)
        keys, values = self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)
        return keys, values, torch.arange(end, device=at.device)

    def select(self, rows: Tensor) -> None:
        """Keeps the rows (R,), in this order."""
        self.keys = _moved(self.keys, rows, self.length)
        self.values = _moved(self.values, rows, self.length)


class SegmentMemory:
    """The inputs of earlier segments, projected again each time (Transformer-XL, section 3.2).

    The gradient reaches the key and value weights, never the old segment.
    """

    only_new = False

    def __init__(self, length: int) -> None:
        self.length = length
        self.source: Tensor | None = None
        self.at: Tensor | None = None

    def extend(self, source: Tensor, at: Tensor, project: Project) -> tuple[Tensor, Tensor, Tensor]:
        whole, whole_at = source, at
        if self.source is not None and self.at is not None:
            whole = torch.cat((self.source.to(source.dtype), source), 1)
            whole_at = torch.cat((self.at, at), -1)
        k, v = project(whole, whole_at)
        keep = max(0, whole.size(1) - self.length)
        self.source, self.at = whole[:, keep:].detach(), whole_at[..., keep:]
        return k, v, whole_at

    def select(self, rows: Tensor) -> None:
        """Keeps the rows (R,), in this order."""
        if self.source is not None and self.at is not None:
            self.source, self.at = self.source.index_select(0, rows), _rows_of(self.at, rows)

    def tensors(self) -> dict[str, Tensor]:
        """What is remembered, by name; the inverse of `restore`."""
        if self.source is None or self.at is None:
            return {}
        return {"source": self.source, "at": self.at}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Remembers `tensors` and nothing else."""
        self.source, self.at = tensors.get("source"), tensors.get("at")


class Recurrent:
    """What a recurrent layer remembers: its last output, and the LSTM's cell beside it.

    Zeros until something was read. The gradient never reaches an earlier segment.
    """

    def __init__(self) -> None:
        self.parts: tuple[Tensor, ...] = ()

    def keep(self, parts: tuple[Tensor, ...]) -> None:
        """Remembers (B, W) tensors: the output, and the cell of an LSTM."""
        self.parts = tuple(part.detach() for part in parts)

    def select(self, rows: Tensor) -> None:
        """Keeps the rows (R,), in this order."""
        self.parts = tuple(part.index_select(0, rows) for part in self.parts)

    def tensors(self) -> dict[str, Tensor]:
        """What is remembered, by name; the inverse of `restore`."""
        return dict(zip(("output", "cell"), self.parts, strict=False))

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Remembers `tensors` and nothing else."""
        self.parts = tuple(tensors[name] for name in ("output", "cell") if name in tensors)


class CrossCache:
    """Keys and values of an encoded source, projected once for a whole decoding."""

    only_new = False

    def __init__(self) -> None:
        self.kept: tuple[Tensor, Tensor, Tensor] | None = None

    def extend(self, source: Tensor, at: Tensor, project: Project) -> tuple[Tensor, Tensor, Tensor]:
        if self.kept is None:
            self.kept = (*project(source, at), at)
        return self.kept

    def select(self, rows: Tensor) -> None:
        """Keeps the rows (R,), in this order."""
        if self.kept is not None:
            keys, values, at = self.kept
            end = keys.size(2)
            self.kept = (_moved(keys, rows, end), _moved(values, rows, end), _rows_of(at, rows))


@dataclass
class LayerState:
    """What one block remembers: of its own past, and of an encoded source."""

    own: Memory | None = None
    cross: Memory | None = None
    recurrent: Recurrent | None = None
    """In place of both, in a network without attention."""

    @property
    def carried(self) -> SegmentMemory | Recurrent | None:
        """What is handed on from one segment of a text to the next."""
        return self.own if isinstance(self.own, SegmentMemory) else self.recurrent

    def select(self, rows: Tensor, *, sources: bool) -> None:
        """Keeps the rows (R,), in this order; what is known of the sources only if asked to."""
        cross = self.cross if sources else None
        for part in (self.own, self.recurrent, cross):
            if part is not None:
                part.select(rows)


@dataclass
class State:
    """What a whole model remembers; handed in with every call, and extended by it."""

    layers: list[LayerState]
    length: int = 0
    """Positions seen so far by the row that has seen the most."""
    source: Tensor | None = None
    """(B, S, W) what an encoder made of the text to read; None where there is no encoder."""
    source_at: Tensor | None = None
    """(B, S) its positions, negative for padding."""
    source_ids: Tensor | None = None
    """(B, S) int64; its tokens, for a model that copies them."""

    def tensors(self) -> dict[str, Tensor]:
        """What is handed on from segment to segment, by name: for a checkpoint."""
        found = {"length": torch.tensor(self.length)}
        for number, layer in enumerate(self.layers):
            if layer.carried is not None:
                for name, tensor in layer.carried.tensors().items():
                    found[f"{number}.{name}"] = tensor
        return found

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The inverse of `tensors`."""
        self.length = int(tensors["length"])
        for number, layer in enumerate(self.layers):
            if layer.carried is not None:
                start = f"{number}."
                mine = {
                    name.removeprefix(start): tensor.to(device)
                    for name, tensor in tensors.items()
                    if name.startswith(start)
                }
                layer.carried.restore(mine)

    @property
    def slotted(self) -> bool:
        """Whether rows may stand at different positions, and go back to earlier ones."""
        return all(isinstance(layer.own, KVCache) for layer in self.layers)

    def rewind(self, length: int) -> None:
        """Goes on after the first `length` positions, as if no row had read more."""
        self.length = length
        for layer in self.layers:
            assert isinstance(layer.own, KVCache)
            layer.own.length = length

    def put(self, rows: Tensor, other: "State") -> None:
        """Has rows (R,) go on from what the R rows of another state have read."""
        for layer, theirs in zip(self.layers, other.layers, strict=True):
            assert isinstance(layer.own, KVCache) and isinstance(theirs.own, KVCache)
            layer.own.keys[rows, :, : other.length] = theirs.own.keys[:, :, : other.length]
            layer.own.values[rows, :, : other.length] = theirs.own.values[:, :, : other.length]

    def select(self, rows: Tensor, *, sources: bool = True) -> None:
        """Keeps some rows, in a new order: row i goes on from what row `rows[i]` has read.

        Args:
            rows: (R,) int64; one may come several times.
            sources: False where row i has the same source as row `rows[i]`, so that what is known
                of the sources, which is the most, can stay where it is.
        """
        for layer in self.layers:
            layer.select(rows, sources=sources)
        if sources and self.source is not None:
            self.source = self.source.index_select(0, rows)
        if sources and self.source_at is not None:
            self.source_at = _rows_of(self.source_at, rows)
        if sources and self.source_ids is not None:
            self.source_ids = _rows_of(self.source_ids, rows)


def _moved(buffer: Tensor, rows: Tensor, end: int) -> Tensor:
    """(R, K, S, D) of (B, K, S, D): row i was row `rows[i]`; only `end` positions matter.

    Rows that stay are not copied, unless there are more than before.
    """
    if len(rows) > len(buffer):
        larger = buffer.new_zeros(len(rows), *buffer.shape[1:])
        larger[:, :, :end] = buffer[:, :, :end].index_select(0, rows)
        return larger
    to = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
    if len(to):
        buffer[to, :, :end] = buffer[rows[to], :, :end]
    return buffer[: len(rows)]


def _rows_of(at: Tensor, rows: Tensor) -> Tensor:
    """Positions (S,) are those of every row."""
    return at if at.dim() == 1 else at.index_select(0, rows)


NOTHING = LayerState()
