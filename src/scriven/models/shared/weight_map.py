"""Our parameter names and another library's, as data; one function applies a table each way.

A row of a table says which of our parameters becomes which foreign ones. `{n}` stands for the
layer. Several foreign names mean our matrix is cut along its rows into those parts.

What no table can say, an architecture does in two functions of its own, where it has them:
`complete(config, theirs)` adds tensors that its twin stores and ours computes or leaves out, and
`reduce(config, theirs)` takes them away again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

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


def to_twin(
    architecture: ModuleType, config: Any, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Our tensors as the Hugging Face twin of an architecture stores them."""
    theirs = to_foreign(tensors, architecture.NAMES, deepest(config), architecture.sizes(config))
    if hasattr(architecture, "complete"):
        theirs = architecture.complete(config, theirs)
    return theirs


def from_twin(
    architecture: ModuleType, config: Any, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The inverse of `to_twin`.

    Raises:
        DamagedError: as `from_foreign`.
    """
    theirs = dict(tensors)
    if hasattr(architecture, "reduce"):
        theirs = architecture.reduce(config, theirs)
    return from_foreign(theirs, architecture.NAMES, deepest(config))


def deepest(config: Any) -> int:
    """Layers of a model's deepest stack: an encoder may have more than its decoder."""
    return int(max(config.layers, getattr(config, "encoder_layers", None) or 0))


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
