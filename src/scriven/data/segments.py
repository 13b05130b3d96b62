"""Ids spread over many files, read as one array: parts of files in an order, some of them repeated.

A repeated part costs no disk. Files are opened when they are first read, some at a time.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .shards import Shard

OPEN = 64
"""Files held open at most; a process may have no more than a thousand or so."""

Segment = tuple[str, int, int]
"""File, first token in it, tokens."""


class SegmentedShard(Shard):
    """A shard made of segments.

    Args:
        folder: where the files are.
        dtype: of the ids, as in `Shard`.
        segments: in reading order; those without tokens are left out.
        sizes: tokens of each file, by name.

    Raises:
        DamagedError: when a file is first read, as `Shard`.
    """

    def __init__(
        self, folder: Path, dtype: str, segments: Sequence[Segment], sizes: dict[str, int]
    ) -> None:
        self.path = folder
        self._dtype = np.dtype(dtype)
        self._segments = [each for each in segments if each[2]]
        self._sizes = sizes
        counts = np.array([each[2] for each in self._segments], dtype=np.int64)
        self._ends = np.cumsum(counts)
        self._tokens = int(counts.sum())
        self._shards: OrderedDict[str, Shard] = OrderedDict()

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """As `Shard.windows`; a window may reach over several files."""
        assert length >= 0
        assert len(starts) == 0 or (min(starts) >= 0 and max(starts) + length <= self._tokens)
        found = np.empty((len(starts), length), dtype=np.int64)
        places = np.searchsorted(self._ends, starts, side="right")
        for row, start, place in zip(found, starts.tolist(), places.tolist(), strict=True):
            filled = 0
            while filled < length:
                name, first, tokens = self._segments[place]
                inside = start + filled - (int(self._ends[place]) - tokens)
                count = min(length - filled, tokens - inside)
                row[filled : filled + count] = self._shard(name).read(first + inside, count)
                filled, place = filled + count, place + 1
        return found

    def close(self) -> None:
        """Closes the files."""
        while self._shards:
            self._shards.popitem()[1].close()

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
            while len(self._shards) >= OPEN:
                self._shards.popitem(last=False)[1].close()
            self._shards[name] = Shard(self.path / name, self._dtype.str, self._sizes[name])
        self._shards.move_to_end(name)
        return self._shards[name]
