"""A matrix with few entries per row, and its product with a narrow one.

An embedding bag is just that product, so both directions are two calls of one kernel.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Sparse:
    """(n, f) by rows: the entries of row i are those from `starts[i]` to `starts[i + 1]`."""

    starts: Tensor
    """(n + 1,) int64."""
    columns: Tensor
    """(entries,) int64."""
    values: Tensor
    """(entries,) float32 or float64."""
    width: int
    """f."""

    @classmethod
    def of(cls, rows: list[list[int]], weights: Tensor) -> Self:
        """A row's entries are the weights (f,) of its columns."""
        lengths = torch.tensor([0, *map(len, rows)])
        columns = torch.tensor([column for row in rows for column in row], dtype=torch.int64)
        return cls(lengths.cumsum(0), columns, weights[columns], len(weights))

    def __len__(self) -> int:
        """n."""
        return len(self.starts) - 1

    def times(self, dense: Tensor) -> Tensor:
        """(f, c) -> (n, c)."""
        return F.embedding_bag(
            self.columns, dense, self.starts, mode="sum", per_sample_weights=self.values,
            include_last_offset=True,
        )  # fmt: skip

    def turned(self) -> "Sparse":
        """(f, n)."""
        order = self.columns.argsort(stable=True)
        of_row = torch.arange(len(self)).repeat_interleave(self.starts.diff())
        lengths = torch.bincount(self.columns, minlength=self.width)
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return Sparse(starts, of_row[order], self.values[order], len(self))

    def rows(self, places: Tensor) -> "Sparse":
        """Some of the rows, in the order of `places` (m,)."""
        lengths = self.starts.diff()[places]
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = (self.starts[places] - starts[:-1]).repeat_interleave(lengths)
        entries = torch.arange(int(starts[-1])) + shift
        return Sparse(starts, self.columns[entries], self.values[entries], self.width)
