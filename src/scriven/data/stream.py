"""Texts read in their own order, for models that remember: each row of a batch goes on where it
ended in the batch before.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from .batch import IGNORED, Batch
from .shards import Shard
from .windows import TOKENS_AT_ONCE

ROWS = 16
"""Streams a text is measured in, at most."""


class Stream:
    """Rows that read the text side by side, each its own part from beginning to end.

    A pure function of (seed, number of the sample), like `order.Order`. Each pass begins a little
    later or earlier than the one before, so that windows cut the text at other places.

    Args:
        tokens: length of the training text in tokens.
        length: tokens a window spans, the last target included.
        rows: of a batch.
        seed: of the run.
    """

    def __init__(self, tokens: int, length: int, rows: int, seed: int) -> None:
        assert tokens >= length, "the text is shorter than one window"
        self.length, self.rows, self.seed = length, rows, seed
        self.step = length - 1  # the last target of a window is the first input of the next
        spare = tokens - length
        self.windows = max(1, spare // (rows * self.step))
        """Windows of each row in a pass."""
        last = (self.windows - 1) * self.step
        # a text too short for so many rows lets them overlap
        self.stride = min(self.windows * self.step, (spare - last) // max(1, rows - 1))
        self.room = spare - last - (rows - 1) * self.stride

    def starts(self, first: int) -> tuple[NDArray[np.int64], bool]:
        """Of the batch that begins with this sample: (starts (rows,), whether a pass begins)."""
        number, place = divmod(first // self.rows, self.windows)
        digest = hashlib.sha256(f"{self.seed}/stream/{number}".encode()).digest()
        offset = int.from_bytes(digest[:8], "little") % (self.room + 1)
        rows = np.arange(self.rows, dtype=np.int64)
        return offset + rows * self.stride + place * self.step, place == 0


def streams(shard: Shard, context: int, eos: int, device: torch.device) -> Iterator[Batch]:
    """Next-token batches (rows, context) that count every token of a shard once.

    The shard is cut into a few long rows. The first token of each is predicted from the one before
    it alone, and nothing is remembered there: the loss is a little too high for it, never too low.
    """
    total = len(shard)
    rows = max(1, min(ROWS, TOKENS_AT_ONCE // context, total // (8 * context)))
    size = -(-total // rows)
    for place in range(0, size, context):
        tokens, targets = [], []
        width = min(context, size - place)
        for row in range(rows):
            start = row * size + place
            count = max(0, min(width, total - start, (row + 1) * size - start))
            found = shard.read(start - 1, count + 1) if start and count else shard.read(0, count)
            if start == 0:
                found = np.concatenate(([eos], found))
            padded = np.full(width + 1, eos, dtype=np.int64)
            padded[: len(found)] = found
            tokens.append(padded[:-1])
            targets.append(np.where(np.arange(width) < count, padded[1:], IGNORED))
        yield Batch(
            torch.from_numpy(np.stack(tokens)).to(device),
            torch.from_numpy(np.stack(targets)).to(device),
            fresh=place == 0,
        )
