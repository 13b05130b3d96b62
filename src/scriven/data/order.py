"""Which windows of the text a training step reads: a pure function of (seed, step).

Nothing is stored and nothing is skipped on resume: step 1,000,000 costs what step 0 costs, and
any number of processes can share a step's windows without talking to each other.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

ROUNDS = 4


class Order:
    """Windows of `length` tokens, every one once per pass, in a new order and at a new offset.

    Args:
        tokens: length of the training text in tokens.
        length: tokens a window spans, the last target included.
        seed: of the run.
    """

    def __init__(self, tokens: int, length: int, seed: int) -> None:
        assert tokens >= length, "the text is shorter than one window"
        self.tokens, self.length, self.seed = tokens, length, seed
        self.stride = length - 1  # the last target of a window is the first input of the next
        # one window less than fit, so that every offset leaves the same number
        self.windows = max(1, (tokens - 1) // self.stride - 1)

    def starts(self, first: int, count: int) -> NDArray[np.int64]:
        """Starts of samples number first .. first + count - 1 of the endless stream."""
        sample = np.arange(first, first + count, dtype=np.int64)
        passes = sample // self.windows
        starts = np.empty(count, dtype=np.int64)
        for each in np.unique(passes):
            chosen = passes == each
            window = shuffle(sample[chosen] % self.windows, self.windows, self._key(int(each)))
            starts[chosen] = window * self.stride + self._offset(int(each))
        return starts

    def _offset(self, number: int) -> int:
        """Where the windows of a pass begin, so that passes cut the text at different places."""
        room = self.tokens - self.length - (self.windows - 1) * self.stride
        return self._key(number) % (min(room, self.stride - 1) + 1)

    def _key(self, number: int) -> int:
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        return int.from_bytes(digest[:8], "little")


def drawn(first: int, count: int, rows: int, seed: int) -> NDArray[np.int64]:
    """The rows of a table for samples number first .. first + count - 1: every one once per pass,
    shuffled."""
    sample = np.arange(first, first + count, dtype=np.int64)
    numbers = np.empty(count, dtype=np.int64)
    for each in np.unique(sample // rows):
        chosen = sample // rows == each
        digest = hashlib.sha256(f"{seed}/pairs/{each}".encode()).digest()
        key = int.from_bytes(digest[:8], "little")
        numbers[chosen] = shuffle(sample[chosen] % rows, rows, key)
    return numbers


ALIKE = 16
"""Batches among which rows are sorted by length."""


def drawn_alike(first: int, count: int, lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """As `drawn`, but the rows of a batch are about as long as each other, which saves padding.

    Sixteen batches are drawn at once, sorted by length, cut, and taken in a random order. A pure
    function as well, of the number of the first sample in units of `count`.
    """
    together = max(1, min(ALIKE, len(lengths) // count))
    block, place = divmod(first // count, together)
    numbers = drawn(block * together * count, together * count, len(lengths), seed)
    numbers = numbers[np.argsort(lengths[numbers], kind="stable")]
    digest = hashlib.sha256(f"{seed}/alike/{block}".encode()).digest()
    turn = shuffle(np.array([place]), together, int.from_bytes(digest[:8], "little"))[0]
    return numbers[turn * count : (turn + 1) * count]


def shuffle(index: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """The places of `index` in a pseudo-random permutation of range(size), in constant memory.

    A Feistel network over the next even number of bits; results beyond `size` are sent through
    again ("cycle walking"; Black and Rogaway 2002, section 3), which ends because the network
    itself is a permutation.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = [
        int.from_bytes(hashlib.sha256(f"{key}:{turn}".encode()).digest()[:8], "little")
        for turn in range(ROUNDS)
    ]
    out = index.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = out[todo] >> np.uint64(half), out[todo] & mask
        for each in keys:
            left, right = right, left ^ (_mix(right, each) & mask)
        out[todo] = (left << np.uint64(half)) | right
        todo = todo[out[todo] >= size]
    return out.astype(np.int64)


def _mix(value: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: every input bit reaches every output bit."""
    with np.errstate(over="ignore"):
        x = value + np.uint64(key)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
