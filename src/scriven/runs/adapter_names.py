"""Names of adapters and of what they adapt: ours, and PEFT's for the Hugging Face twin.

An adapter's A and B are rows of the same kind of table as the weights (models/shared/names.py),
so one function cuts, renames and puts together again. Knows no file.
"""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from torch import Tensor

from ..models.shared.names import Name, Sizes, deepest, expand
from ..nn.lora import TARGETS
from .huggingface import SCORE, hf_config_of, is_labelled

A, B = ".lora_A.weight", ".lora_B.weight"


class Names:
    """One model's weights and adapters, here and there.

    Args:
        architecture: its file. config: its Config.
        kind: of its task, a file of tasks/; what it is pre-trained for by default.
    """

    def __init__(self, architecture: ModuleType, config: Any, kind: str | None = None) -> None:
        self.twin = hf_config_of(architecture, config, kind)
        rows = [] if self.twin is None else expand(architecture.NAMES, deepest(config))
        self.table = {row.ours: row for row in rows}
        """Empty where there is no twin: then names are ours."""
        if rows and kind is not None and is_labelled(kind):
            self.table["words.weight"] = self.table["head.weight"]
            self.table["head.weight"] = Name("head.weight", SCORE)
        self.sizes: Sizes = architecture.sizes(config)

    def cuts(self) -> dict[str, list[int]]:
        """Matrices that the twin stores in parts -> rows of each part."""
        return {row.ours: list(self.sizes[row.parts]) for row in self.table.values() if row.parts}

    def row(self, name: str) -> Name:
        """What one of our weights is called there."""
        found = self.table.get(name) or Name(name, name)
        theirs = (found.theirs,) if isinstance(found.theirs, str) else found.theirs
        return Name(name, theirs, found.parts, found.transposed)

    def pair(self, name: str) -> list[Name]:
        """The rows of the A and B of one of our matrices; neither is ever transposed."""
        row = self.row(name)
        layers = [layer_of(theirs) for theirs in row.theirs]
        return [
            Name(f"{name}{A}", tuple(f"{each}{A}" for each in layers), row.parts and "rank"),
            Name(f"{name}{B}", tuple(f"{each}{B}" for each in layers), row.parts),
        ]

    def with_rank(self, name: str, rank: int) -> Sizes:
        """Where the tables of `pair` cut."""
        return {**self.sizes, "rank": [rank] * len(self.row(name).theirs)}

    def fill(self, given: dict[str, Tensor], name: str, weight: Tensor, rank: int) -> None:
        """Adds an adapter of zeros for each part that has none, beside one that has."""
        layers = [layer_of(theirs) for theirs in self.row(name).theirs]
        if not any(f"{layer}{A}" in given for layer in layers):
            return
        sizes = self.cuts().get(name, [weight.size(0)])
        for layer, size in zip(layers, sizes, strict=True):
            if f"{layer}{A}" not in given and f"{layer}{B}" not in given:
                given[f"{layer}{A}"] = weight.new_zeros(rank, weight.size(1))
                given[f"{layer}{B}"] = weight.new_zeros(size, rank)


def adaptable(weights: Mapping[str, Tensor]) -> list[str]:
    """Those weights that may have an adapter."""
    return [
        name
        for name, weight in weights.items()
        if weight.dim() == 2 and name.rpartition(".")[0].rpartition(".")[2] in TARGETS
    ]


def layer_of(name: str) -> str:
    """The layer of a weight; each matrix of a recurrent layer counts as a layer."""
    return name.removesuffix(".weight")


def shortest(layers: Iterable[str], others: Iterable[str]) -> list[str]:
    """The shortest endings of dotted names that mean all of `layers` and none of `others`."""
    dotted = [f".{name}" for name in others]
    found = set()
    for layer in layers:
        words = layer.split(".")
        endings = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
        clear = (each for each in endings if not any(one.endswith(f".{each}") for one in dotted))
        found.add(next(clear, layer))
    return sorted(found)
