"""Caches: what the layers of a model keep between calls.

`Cache` belongs to a whole model, `LayerCache` to one block. Attention sees one of three kinds:

    KVCache         projected keys and values, for decoding
    SegmentMemory   inputs of earlier segments, projected again each time (Transformer-XL)
    CrossCache      keys and values of an encoder's output, projected once

Each has `projects_only_new`: whether only new inputs are projected, so that one matmul makes the
queries too; and

    update(source, positions, project)   adds inputs (B, T, C) at positions (T,) or (B, T); returns
        keys (B, K, S, D), values (B, K, S, D) and positions (S,) or (B, S) to attend to, old and
        new together
    reorder(rows)   keeps the rows (R,), in this order; one may come several times (beam search)

A recurrent layer keeps a `RecurrentState` instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Project = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Inputs (B, T, C) and positions -> keys and values (B, K, T, D)."""


class KVCache:
    """Keys and values, each in the slot of its position.

    Rows may be of different length. Slots beyond a row's own length are masked for it, and are
    overwritten when the row gets there; so a sequence is truncated by going on at a lower position.
    """

    projects_only_new = True

    def __init__(
        self,
        batch: int,
        capacity: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (batch, heads, capacity, head_dim)  # (B, K, S, D)
        # zeros, not empty memory: a masked slot must not hold NaN
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0
        """Slots in use by the longest row."""
        self._storage = self.keys, self.values

    def update(
        self, source: Tensor, positions: Tensor, project: Project
    ) -> tuple[Tensor, Tensor, Tensor]:
        k, v = project(source, positions)  # (B, K, T, D)
        # 1. the slots of the new tokens
        start, new = self.length, source.size(1)
        end = self.length = start + new
        # `length` is that of the longest row; the caller truncates it when rows are ragged
        assert end <= self.keys.size(2), "the KV cache is full: evict tokens first"
        # 2. write them
        if positions.dim() == 1:  # all rows have the same length
            self.keys.narrow(2, start, new).copy_(k)
            self.values.narrow(2, start, new).copy_(v)
        else:  # ragged: each row writes to slots of its own
            rows = torch.arange(len(positions), device=positions.device)[:, None]  # (B, 1)
            # indexing puts the indexed dimensions first: (B, T, K, D)
            self.keys[rows, :, positions] = k.transpose(1, 2)
            self.values[rows, :, positions] = v.transpose(1, 2)
        # 3. all slots in use, as views
        keys, values = self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)
        return keys, values, torch.arange(end, device=positions.device)

    def reorder(self, rows: Tensor) -> None:
        self.keys = _reordered(self.keys, rows, self.length)
        self.values = _reordered(self.values, rows, self.length)

    def resize(self, rows: int) -> None:
        """Goes on with the first `rows` of the rows that it was made for; added ones are copied
        into next, or hold what an earlier row left there."""
        self.keys, self.values = self._storage[0][:rows], self._storage[1][:rows]


class SegmentMemory:
    """The inputs of earlier segments (Transformer-XL, Dai et al. 2019, section 3.2).

    The gradient reaches the key and value weights, never the old segment.
    """

    projects_only_new = False

    def __init__(self, length: int) -> None:
        self.length = length
        self.source: Tensor | None = None
        self.positions: Tensor | None = None

    def update(
        self, source: Tensor, positions: Tensor, project: Project
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self.source is not None and self.positions is not None:
            source = torch.cat((self.source.to(source.dtype), source), 1)  # (B, S, C)
            positions = torch.cat((self.positions, positions), -1)
        k, v = project(source, positions)  # (B, K, S, D), of old and new inputs
        # keep the last `length` inputs for the next segment; detached, so that no gradient follows
        drop = max(0, source.size(1) - self.length)
        self.source, self.positions = source[:, drop:].detach(), positions[..., drop:]
        return k, v, positions

    def reorder(self, rows: Tensor) -> None:
        if self.source is not None and self.positions is not None:
            self.source = self.source.index_select(0, rows)
            self.positions = _select_rows(self.positions, rows)

    def tensors(self) -> dict[str, Tensor]:
        """The memory by name, for a checkpoint; the inverse of `restore`."""
        if self.source is None or self.positions is None:
            return {}
        return {"source": self.source, "at": self.positions}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Replaces the memory by `tensors`."""
        self.source, self.positions = tensors.get("source"), tensors.get("at")


class RecurrentState:
    """The hidden state of a recurrent layer, (B, C), and the cell state of an LSTM beside it.

    Empty until something was read. The gradient never reaches an earlier segment (truncated
    backpropagation through time).
    """

    NAMES = ("output", "cell")

    def __init__(self) -> None:
        self.parts: tuple[Tensor, ...] = ()

    def update(self, parts: tuple[Tensor, ...]) -> None:
        """Replaces the state by (B, C) tensors, one for each of NAMES that the layer has."""
        assert len(parts) <= len(self.NAMES)
        self.parts = tuple(part.detach() for part in parts)

    def reorder(self, rows: Tensor) -> None:
        """Keeps the rows (R,), in this order."""
        self.parts = tuple(part.index_select(0, rows) for part in self.parts)

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, for a checkpoint; the inverse of `restore`."""
        return dict(zip(self.NAMES, self.parts, strict=False))

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Replaces the state by `tensors`."""
        self.parts = tuple(tensors[name] for name in self.NAMES if name in tensors)


class CrossCache:
    """Keys and values of an encoder's output, projected once for a whole decoding."""

    projects_only_new = False

    def __init__(self) -> None:
        self.projected: tuple[Tensor, Tensor, Tensor] | None = None

    def update(
        self, source: Tensor, positions: Tensor, project: Project
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self.projected is None:  # the first token; the source never changes afterwards
            self.projected = (*project(source, positions), positions)
        return self.projected

    def reorder(self, rows: Tensor) -> None:
        if self.projected is not None:
            keys, values, positions = self.projected
            end = keys.size(2)
            keys, values = _reordered(keys, rows, end), _reordered(values, rows, end)
            self.projected = (keys, values, _select_rows(positions, rows))


AttentionCache = KVCache | SegmentMemory | CrossCache


@dataclass
class LayerCache:
    """The caches of one block."""

    self_attn: AttentionCache | None = None
    cross: AttentionCache | None = None
    recurrent: RecurrentState | None = None
    """In place of both, in a network without attention."""

    @property
    def across_segments(self) -> SegmentMemory | RecurrentState | None:
        """What is passed on from one segment of a text to the next."""
        return self.self_attn if isinstance(self.self_attn, SegmentMemory) else self.recurrent


@dataclass
class Cache:
    """The cache of a whole model; passed in with every call, and extended by it."""

    layers: list[LayerCache]
    length: int = 0
    """Tokens in the longest row."""
    source: Tensor | None = None
    """(B, S, C) output of the encoder; None where there is none."""
    source_positions: Tensor | None = None
    """(B, S) positions of the source, negative for padding."""
    source_ids: Tensor | None = None
    """(B, S) int64 tokens of the source, for a model that copies them."""

    def tensors(self) -> dict[str, Tensor]:
        """What is passed on from segment to segment, by name: for a checkpoint."""
        named = {"length": torch.tensor(self.length)}
        for number, layer in enumerate(self.layers):
            if layer.across_segments is not None:
                for name, tensor in layer.across_segments.tensors().items():
                    named[f"{number}.{name}"] = tensor
        return named

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The inverse of `tensors`."""
        self.length = int(tensors["length"])
        for number, layer in enumerate(self.layers):
            if layer.across_segments is not None:
                start = f"{number}."
                names = [name for name in tensors if name.startswith(start)]
                layer.across_segments.restore(
                    {name.removeprefix(start): tensors[name].to(device) for name in names}
                )

    @property
    def supports_ragged(self) -> bool:
        """Whether rows may be of different length, and may be truncated."""
        return all(isinstance(layer.self_attn, KVCache) for layer in self.layers)

    def truncate(self, length: int) -> None:
        """Goes on after the first `length` positions, as if no row had read more."""
        self.length = length
        for layer in self.layers:
            assert isinstance(layer.self_attn, KVCache)
            layer.self_attn.length = length

    def resize(self, rows: int) -> None:
        """Uses the first `rows` of the rows that the cache was made for (continuous batching)."""
        for layer in self.layers:
            assert isinstance(layer.self_attn, KVCache)
            layer.self_attn.resize(rows)

    def copy_rows(self, rows: Tensor, other: "Cache") -> None:
        """Copies the R rows of another cache into the rows (R,) of this one."""
        end = other.length
        for layer, other_layer in zip(self.layers, other.layers, strict=True):
            to, source = layer.self_attn, other_layer.self_attn
            assert isinstance(to, KVCache) and isinstance(source, KVCache)
            to.keys[rows, :, :end] = source.keys[:, :, :end]
            to.values[rows, :, :end] = source.values[:, :, :end]

    def reorder(self, rows: Tensor, *, sources: bool = True) -> None:
        """Keeps some rows, in a new order: row i becomes what row `rows[i]` was.

        Args:
            rows: (R,) int64; one may come several times.
            sources: False where row i has the same source as row `rows[i]`, so that the encoder's
                output and its keys and values, which are the most, can stay where they are.
        """
        for layer in self.layers:
            for part in (layer.self_attn, layer.recurrent, layer.cross if sources else None):
                if part is not None:
                    part.reorder(rows)
        if sources and self.source is not None:
            self.source = self.source.index_select(0, rows)
        if sources and self.source_positions is not None:
            self.source_positions = _select_rows(self.source_positions, rows)
        if sources and self.source_ids is not None:
            self.source_ids = _select_rows(self.source_ids, rows)


def _reordered(buffer: Tensor, rows: Tensor, end: int) -> Tensor:
    """(B, K, S, D) -> (R, K, S, D): row i was row `rows[i]`; only `end` positions matter.

    Rows that stay are not copied, unless there are more than before.
    """
    if len(rows) > len(buffer):  # the first step of a beam search: each row becomes several
        larger = buffer.new_zeros(len(rows), *buffer.shape[1:])
        larger[:, :, :end] = buffer[:, :, :end].index_select(0, rows)
        return larger
    # rows that change places; the right-hand side is a copy, so rows may swap
    to = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
    if len(to):
        buffer[to, :, :end] = buffer[rows[to], :, :end]
    return buffer[: len(rows)]


def _select_rows(positions: Tensor, rows: Tensor) -> Tensor:
    """Positions (B, S) -> (R, S); positions (S,) are those of every row."""
    return positions if positions.dim() == 1 else positions.index_select(0, rows)


EMPTY = LayerCache()
"""The cache of a block without one."""
