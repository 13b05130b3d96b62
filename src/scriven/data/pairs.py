"""Pairs of a source and a target in a token file.

A pair is two documents, source and target, each followed by EOS, so everything that is true of
texts is true of pairs. The last pairs are held out, as a text keeps its end.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..tokenizers import Tokenizer
from .shards import TokenFile

_BLOCK = 1 << 20

Ids = NDArray[np.int64]


class PairDataset:
    """The pairs of a token file whose documents alternate.

    Args:
        file: source, EOS, target, EOS, source ...
    """

    def __init__(self, file: TokenFile, eos: int) -> None:
        self.file = file
        # ends of all documents, found block by block to keep memory flat
        blocks = [
            start + np.flatnonzero(file.read(start, min(_BLOCK, len(file) - start)) == eos)
            for start in range(0, len(file), _BLOCK)
        ]
        ends = np.concatenate(blocks)
        assert len(ends) and len(ends) % 2 == 0, "a pair was not ended"
        self._ends = ends + 1  # (2 pairs,), one beyond the EOS
        self._starts = np.concatenate(([0], self._ends[:-1]))

    def __len__(self) -> int:
        return len(self._ends) // 2

    @cached_property
    def lengths(self) -> Ids:
        """(pairs, 2) tokens of source and target; EOS counts in the target, which learns it."""
        sizes: Ids = (self._ends - self._starts).reshape(-1, 2)
        sizes[:, 0] -= 1  # an encoder reads no EOS
        return sizes

    def read(self, numbers: Sequence[int] | Ids) -> tuple[list[Ids], list[Ids]]:
        """Sources without and targets with EOS, in the order of `numbers`."""
        sources, targets = [], []
        for number in numbers:  # documents 2n and 2n + 1 are pair n
            source, target = self.lengths[number]
            sources.append(self.file.read(int(self._starts[2 * number]), int(source)))
            targets.append(self.file.read(int(self._starts[2 * number + 1]), int(target)))
        return sources, targets

    def num_truncated(self, context: int) -> int:
        """How many pairs have a side that is longer than the context."""
        return int((self.lengths.max(1) > context).sum())

    def target_bytes(self, tokenizer: Tokenizer, max_length: int | None = None) -> int:
        """UTF-8 bytes of all targets, for bits per byte; of each its first `max_length` tokens."""
        sizes = np.array([len(each) for each in tokenizer.bytes_of])
        total = 0
        for start, end in zip(self._starts[1::2], self._ends[1::2], strict=True):
            # a context that is too short cuts the target's end
            count = int(end - start) if max_length is None else min(max_length, int(end - start))
            total += int(sizes[self.file.read(int(start), count)].sum())
        return total


def pair_targets(ids: Ids, eos: int) -> Ids:
    """The targets among the ids of pairs, each with its EOS; the last document is a target.

    Args:
        ids: (n,) documents that alternate; the first may be cut off.
    """
    documents_left = np.cumsum(ids[::-1] == eos)[::-1]  # (n,) this one included
    targets: Ids = ids[documents_left % 2 == 1]
    return targets
