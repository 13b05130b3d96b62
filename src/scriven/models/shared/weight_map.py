"""Parameter names here and in transformers, as data; one function applies the table each way.

A row says which name a parameter of ours has there. `{n}` stands for the layer. Several names mean
that our matrix is fused, and is split along its rows into those parts there. What
no table can say, an architecture adds in `to_hf_weights` and `from_hf_weights` (base.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import DamagedError


@dataclass(frozen=True)
class WeightName:
    """One row of a weight map: our parameter and what transformers calls it."""

    ours: str
    hf: str | tuple[str, ...]
    parts: str = ""
    """Which entry of the fused sizes says where to split."""
    transposed: bool = False
    """Stored as (in, out) there (GPT-2's Conv1D), as (out, in) here."""
    interleaved: str = ""
    """Which entry of the sizes says how many heads there are: the rows of a fused matrix are
    ordered by head there, and by part here (GPT-NeoX)."""

    @property
    def hf_names(self) -> tuple[str, ...]:
        """The names there; one, unless the matrix is fused here."""
        return (self.hf,) if isinstance(self.hf, str) else self.hf


FusedSizes = Mapping[str, Sequence[int]]
"""`parts` of a weight map -> rows of each part; `interleaved` -> parts and heads."""


def rename_to_hf(
    weights: Mapping[str, Tensor], table: Sequence[WeightName], layers: int, sizes: FusedSizes
) -> dict[str, Tensor]:
    """Our weights under the names of transformers; each of ours must be in the table."""
    left = dict(weights)
    renamed: dict[str, Tensor] = {}
    for row in expand_layers(table, layers):
        if row.ours not in left:
            continue  # an optional one: a bias, an untied head
        # a fused matrix is split along its rows, before it is transposed
        weight = left.pop(row.ours)
        if row.interleaved:
            weight = _swap(weight, *sizes[row.interleaved])
        pieces = torch.split(weight, list(sizes[row.parts])) if row.parts else (weight,)
        for name, piece in zip(row.hf_names, pieces, strict=True):
            renamed[name] = (piece.mT if row.transposed else piece).contiguous()
    assert not left, f"parameters without a name in transformers: {sorted(left)}"
    return renamed


def rename_from_hf(
    weights: Mapping[str, Tensor], table: Sequence[WeightName], layers: int, sizes: FusedSizes
) -> dict[str, Tensor]:
    """The inverse of `rename_to_hf`.

    Raises:
        DamagedError: weights that are missing or that the table does not know.
    """
    left = dict(weights)
    renamed: dict[str, Tensor] = {}
    for row in expand_layers(table, layers):
        if not any(name in left for name in row.hf_names):
            continue
        # a fused matrix needs all its parts
        missing = [name for name in row.hf_names if name not in left]
        if missing:
            raise DamagedError(f"weights lack {missing[0]}")
        pieces = [left.pop(name) for name in row.hf_names]
        pieces = [piece.mT if row.transposed else piece for piece in pieces]
        weight = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        if row.interleaved:
            weight = _swap(weight, *reversed(sizes[row.interleaved]))
        renamed[row.ours] = weight.contiguous()
    if left:
        raise DamagedError(f"weights hold {sorted(left)[0]}, which this architecture does not know")
    return renamed


def expand_layers(table: Sequence[WeightName], layers: int) -> list[WeightName]:
    """The table with `{n}` replaced by the number of each layer."""
    rows: list[WeightName] = []
    for row in table:
        if "{n}" not in row.ours:
            rows.append(row)
            continue
        for n in range(layers):
            numbered = tuple(name.replace("{n}", str(n)) for name in row.hf_names)
            ours = row.ours.replace("{n}", str(n))
            rows.append(replace(row, ours=ours, hf=numbered))
    return rows


def _swap(weight: Tensor, outer: int, inner: int) -> Tensor:
    """Rows ordered by `outer` and then by `inner` -> by `inner` and then by `outer`."""
    shape = weight.shape
    return weight.reshape(outer, inner, -1, *shape[1:]).transpose(0, 1).reshape(shape)
