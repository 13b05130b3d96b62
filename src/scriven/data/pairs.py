"""Pairs of a source and a target: tables with these two columns, and the rows they become.

A prepared pair is two documents, source and target, each closed by EOS, so everything that is true
of prepared texts is true of pairs. The last rows are held out, as a text keeps its end.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import registry
from ..errors import InputError, SettingError
from ..settings import DataSettings
from ..tokenizers import Tokenizer
from .formats.base import Fields, TextChunk, document
from .shards import TokenFile, is_prepared
from .sources import Sources
from .split import Split

COLUMNS = ("source", "target")
_READERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_AT_ONCE = 1 << 20

Ids = NDArray[np.int64]


def are_pairs(names: Sequence[str], settings: DataSettings) -> bool:
    """Whether all sources are tables with the columns `source` and `target`."""
    if any(name == "-" or Path(name).is_fifo() or is_prepared(Path(name)) for name in names):
        return False  # can be read only once, or are ids already
    with Sources(names) as found:
        for each in found.found:
            if each.path is None or each.path.suffix.lower() not in _READERS:
                return False
            try:
                first = next(_rows(each.path, settings), None)
            except InputError:
                return False
            if first is None or first.skipped:
                return False
    return True


class PairSources(Sources):
    """Tables of pairs: each row becomes two documents."""

    def read(self, settings: DataSettings) -> Iterator[TextChunk]:
        """Source, target, source, target ...; a pair with an empty side is skipped.

        Raises:
            InputError: a source that is no table, or lacks one of the columns.
        """
        for each in self.found:
            if each.path is None or each.path.suffix.lower() not in _READERS:
                raise InputError(
                    f"{each.label} holds no pairs: give a .csv, .tsv or .jsonl file with the "
                    "columns source and target"
                )
            for number, row in enumerate(_rows(each.path, settings), 1):
                empty = [name for name, text in zip(COLUMNS, row.texts, strict=False) if not text]
                if row.skipped or empty:
                    why = row.skipped or f"{each.path}: pair {number} has an empty {empty[0]}"
                    yield TextChunk("", False, why)
                else:
                    for text in row.texts:
                        yield from document(text)


def decide_pairs(documents: int, share: float) -> Split:
    """Holds out the last pairs: training keeps `int((1 - share) * pairs)` of them.

    Raises:
        SettingError: a share that is not between 0 and 1. InputError: too few pairs.
    """
    if not 0 < share < 1:
        raise SettingError(f"--data.val_fraction={share}: between 0 and 1, as 0.1")
    pairs = documents // 2
    kept = int((1 - share) * pairs)
    if not 0 < kept < pairs:
        remedy = "give at least 2" if pairs < 2 else "give more, or a smaller share"
        raise InputError(
            f"{pairs} pairs cannot be split by --data.val_fraction={share:g}: {remedy}"
        )
    return Split(None, np.arange(documents) >= 2 * kept)


class PairDataset:
    """The pairs of a shard whose documents alternate."""

    def __init__(self, shard: TokenFile, eos: int) -> None:
        self.shard = shard
        found = [
            start + np.flatnonzero(shard.read(start, min(_AT_ONCE, len(shard) - start)) == eos)
            for start in range(0, len(shard), _AT_ONCE)
        ]
        ends = np.concatenate(found)
        assert len(ends) and len(ends) % 2 == 0, "a pair was not ended"
        self._ends = ends + 1
        self._starts = np.concatenate(([0], self._ends[:-1]))

    def __len__(self) -> int:
        return len(self._ends) // 2

    @cached_property
    def lengths(self) -> Ids:
        """(pairs, 2) tokens of source and target; EOS counts in the target, which learns it."""
        sizes: Ids = (self._ends - self._starts).reshape(-1, 2)
        sizes[:, 0] -= 1
        return sizes

    def read(self, numbers: Sequence[int] | Ids) -> tuple[list[Ids], list[Ids]]:
        """Sources without and targets with EOS, in the order of `numbers`."""
        sources, targets = [], []
        for number in numbers:
            source, target = self.lengths[number]
            sources.append(self.shard.read(int(self._starts[2 * number]), int(source)))
            targets.append(self.shard.read(int(self._starts[2 * number + 1]), int(target)))
        return sources, targets

    def cut(self, context: int) -> int:
        """How many pairs have a side that is longer than the context."""
        return int((self.lengths.max(1) > context).sum())

    def target_bytes(self, tokenizer: Tokenizer, longest: int | None = None) -> int:
        """UTF-8 bytes of all targets, for bits per byte; of each its first `longest` tokens."""
        sizes = np.array([len(each) for each in tokenizer.bytes_of])
        total = 0
        for start, end in zip(self._starts[1::2], self._ends[1::2], strict=True):
            count = int(end - start) if longest is None else min(longest, int(end - start))
            total += int(sizes[self.shard.read(int(start), count)].sum())
        return total


def pair_targets(ids: Ids, eos: int) -> Ids:
    """The targets among the ids of pairs, each with its EOS; the last document is a target.

    Args:
        ids: (n,) documents that alternate; the first may be cut.
    """
    after = np.cumsum(ids[::-1] == eos)[::-1]  # documents from here to the end
    found: Ids = ids[after % 2 == 1]
    return found


def _rows(path: Path, settings: DataSettings) -> Iterator[Fields]:
    module = registry.module(f"{__package__}.formats", _READERS[path.suffix.lower()])
    found: Iterator[Fields] = module.rows(path, settings, COLUMNS)
    return found
