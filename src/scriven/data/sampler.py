"""Which part of the training data each sample reads: a pure function of (seed, sample number).

A sampler keeps no state, so nothing has to be saved or skipped to resume: sample 1,000,000 costs
what sample 0 costs. Processes can share the samples of a step without talking to each other.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

FEISTEL_ROUNDS = 4
BUCKET_BATCHES = 16
"""Batches whose rows are sorted by length together."""

Indices = NDArray[np.int64]


class ShuffledSampler:
    """Windows in random order: every window once per epoch, at a new offset in each epoch.

    Args:
        tokens: length of the training text. length: of a window, the last target included.
    """

    def __init__(self, tokens: int, length: int, seed: int) -> None:
        assert tokens >= length, "the text is shorter than one window"
        self.tokens, self.length, self.seed = tokens, length, seed
        self.stride = length - 1  # the last target of a window is the first input of the next
        # one window less than fit, so that every offset leaves the same number
        self.windows = max(1, (tokens - 1) // self.stride - 1)

    def starts(self, first: int, count: int) -> Indices:
        """(count,) first tokens of the windows for samples `first` .. `first + count - 1`."""
        sample = np.arange(first, first + count, dtype=np.int64)
        epochs = sample // self.windows  # (count,)
        spare = self.tokens - self.length - (self.windows - 1) * self.stride
        starts = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs):  # a batch may reach into the next epoch
            inside = epochs == epoch
            key = seeded_hash(f"{self.seed}/{epoch}")
            # (inside,) numbers of windows, in this epoch's order
            window = permute(sample[inside] % self.windows, self.windows, key)
            # the first window begins elsewhere in each epoch, which cuts the text differently
            offset = key % (min(spare, self.stride - 1) + 1)
            starts[inside] = window * self.stride + offset
        return starts


class SequentialSampler:
    """Windows in the order of the text, for recurrent models: row i of a batch continues row i of
    the batch before.

    Each row reads its own part of the text from beginning to end. Each epoch begins at another
    offset, so that windows cut the text at other places.

    Args:
        tokens, length: as of `ShuffledSampler`. rows: of a batch.
    """

    def __init__(self, tokens: int, length: int, rows: int, seed: int) -> None:
        assert tokens >= length, "the text is shorter than one window"
        self.length, self.rows, self.seed = length, rows, seed
        self.step = length - 1  # the last target of a window is the first input of the next
        spare = tokens - length  # the last place where a window fits
        self.windows = max(1, spare // (rows * self.step))
        """Windows of each row in an epoch."""
        last = (self.windows - 1) * self.step
        # in a text that is too short for so many rows they overlap
        self.stride = min(self.windows * self.step, (spare - last) // max(1, rows - 1))
        self.spare = spare - last - (rows - 1) * self.stride

    def starts(self, first: int) -> tuple[Indices, bool]:
        """(rows,) first tokens of the windows of the batch that begins with sample `first`, and
        whether an epoch begins with it, so that recurrent state is reset."""
        # all rows are at the same window of their own part
        epoch, window = divmod(first // self.rows, self.windows)
        offset = seeded_hash(f"{self.seed}/stream/{epoch}") % (self.spare + 1)
        rows = np.arange(self.rows, dtype=np.int64)  # (rows,)
        return offset + rows * self.stride + window * self.step, window == 0


def shuffled_rows(first: int, count: int, rows: int, seed: int) -> Indices:
    """(count,) rows of a table for samples `first` .. `first + count - 1`: every row once per
    epoch, in random order."""
    sample = np.arange(first, first + count, dtype=np.int64)
    chosen = np.empty(count, dtype=np.int64)
    for epoch in np.unique(sample // rows):
        inside = sample // rows == epoch
        chosen[inside] = permute(sample[inside] % rows, rows, seeded_hash(f"{seed}/pairs/{epoch}"))
    return chosen


def length_bucketed_rows(first: int, count: int, lengths: Indices, seed: int) -> Indices:
    """As `shuffled_rows`, but the rows of a batch are of similar length, which saves padding.

    Args:
        first: number of the batch's first sample, a multiple of `count`, the rows of a batch.
        lengths: (rows,) tokens of each row.
    """
    # 1. draw the rows of a bucket of batches
    batches = max(1, min(BUCKET_BATCHES, len(lengths) // count))
    bucket, place = divmod(first // count, batches)
    rows = shuffled_rows(bucket * batches * count, batches * count, len(lengths), seed)
    # 2. similar lengths together; stable, so that equal lengths keep their random order
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    # 3. the batches of the bucket in random order, or training would go from short to long
    batch = permute(np.array([place]), batches, seeded_hash(f"{seed}/alike/{bucket}"))[0]
    return rows[batch * count : (batch + 1) * count]


def permute(index: Indices, size: int, key: int) -> Indices:
    """Images of `index` under a pseudo-random permutation of range(size), in constant memory.

    A Feistel network over the next even number of bits; results beyond `size` are sent through
    again ("cycle walking"; Black and Rogaway 2002, section 3), which ends because the network
    itself is a permutation.
    """
    # the index as two halves of so many bits each
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = [np.uint64(seeded_hash(f"{key}:{number}")) for number in range(FEISTEL_ROUNDS)]
    out = index.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):  # usually once or twice: the network's range is less than 4 times `size`
        left, right = out[todo] >> np.uint64(half), out[todo] & mask
        for each in keys:
            with np.errstate(over="ignore"):
                # a round is invertible whatever the hash is, so the network is a permutation
                left, right = right, left ^ (splitmix64(right + each) & mask)
        out[todo] = (left << np.uint64(half)) | right
        todo = todo[out[todo] >= size]  # cycle walking
    return out.astype(np.int64)


def seeded_hash(key: str) -> int:
    """64 bits that depend on the text `key` alone, not on the machine or on Python's hash seed."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")


def splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele et al. 2014): each input bit changes about half of
    the output bits."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
