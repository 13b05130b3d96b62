"""The one thing models and tasks exchange: a batch of token ids and what should follow them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

IGNORED = -100
"""A target that is not counted."""


@dataclass(frozen=True)
class Batch:
    """B rows of T tokens."""

    tokens: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64; the token that should follow, or IGNORED."""

    def counted(self) -> int:
        """Number of targets that count."""
        return int((self.targets != IGNORED).sum())

    def split(self, rows: int) -> Iterator["Batch"]:
        """Micro-batches of at most `rows` rows."""
        for start in range(0, self.tokens.size(0), rows):
            end = start + rows
            yield Batch(self.tokens[start:end], self.targets[start:end])
