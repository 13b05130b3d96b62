"""Our parameter names and another library's, as data; one function applies a table each way.

A row of a table says which of our parameters becomes which foreign ones. `{n}` stands for the
layer. Several foreign names mean our matrix is cut along its rows into those parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import DamagedError


@dataclass(frozen=True)
class Name:
    """One row: `ours` becomes `theirs`."""

    ours: str
    theirs: str | tuple[str, ...]
    parts: str = ""
    """Which entry of the sizes handed to the functions below tells where to cut."""
    transposed: bool = False
    """Theirs is stored [in, out] (GPT-2's Conv1D) where ours is [out, in]."""


Sizes = Mapping[str, Sequence[int]]


def to_foreign(
    tensors: Mapping[str, Tensor], names: Sequence[Name], layers: int, sizes: Sizes
) -> dict[str, Tensor]:
    """Our tensors under foreign names; every tensor of ours must be in the table."""
    left = dict(tensors)
    found: dict[str, Tensor] = {}
    for row in expand(names, layers):
        if row.ours not in left:
            continue  # an optional one: a bias, an untied head
        tensor = left.pop(row.ours)
        theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
        pieces = torch.split(tensor, list(sizes[row.parts])) if row.parts else (tensor,)
        for name, piece in zip(theirs, pieces, strict=True):
            found[name] = (piece.mT if row.transposed else piece).contiguous()
    assert not left, f"parameters without a foreign name: {sorted(left)}"
    return found


def from_foreign(
    tensors: Mapping[str, Tensor], names: Sequence[Name], layers: int
) -> dict[str, Tensor]:
    """The inverse of `to_foreign`.

    Raises:
        DamagedError: tensors that are missing or that the table does not know.
    """
    left = dict(tensors)
    found: dict[str, Tensor] = {}
    for row in expand(names, layers):
        theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
        if not any(name in left for name in theirs):
            continue
        missing = [name for name in theirs if name not in left]
        if missing:
            raise DamagedError(f"weights lack {missing[0]}")
        pieces = [left.pop(name) for name in theirs]
        pieces = [piece.mT if row.transposed else piece for piece in pieces]
        found[row.ours] = (torch.cat(pieces) if len(pieces) > 1 else pieces[0]).contiguous()
    if left:
        raise DamagedError(f"weights hold {sorted(left)[0]}, which this architecture does not know")
    return found


def expand(names: Sequence[Name], layers: int) -> list[Name]:
    """The table with `{n}` replaced by each layer's number."""
    rows: list[Name] = []
    for row in names:
        if "{n}" not in row.ours:
            rows.append(row)
            continue
        theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
        for n in range(layers):
            numbered = tuple(name.replace("{n}", str(n)) for name in theirs)
            ours = row.ours.replace("{n}", str(n))
            rows.append(Name(ours, numbered, row.parts, row.transposed))
    return rows
