"""A shard cut into windows that do not overlap, in order: how a text is measured."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from .batch import Batch
from .shards import Shard

TOKENS_AT_ONCE = 8192


def blocks(shard: Shard, length: int) -> Iterator[NDArray[np.int64]]:
    """All of a shard as arrays (rows, length); the last window may be shorter and comes alone."""
    rows = max(1, TOKENS_AT_ONCE // length)
    for start in range(0, len(shard), rows * length):
        count = min(rows * length, len(shard) - start)
        found = shard.read(start, count)
        whole = count // length * length
        if whole:
            yield found[:whole].reshape(-1, length)
        if whole < count:
            yield found[None, whole:]


def windows(shard: Shard, context: int, eos: int, device: torch.device) -> Iterator[Batch]:
    """Next-token batches (B, context) that count every token once.

    The first token of the shard is predicted from `eos`, every other one from the tokens before it
    in its window.
    """
    before = eos
    for targets in blocks(shard, context):
        flat = targets.reshape(-1)
        tokens = np.concatenate(([before], flat[:-1])).reshape(targets.shape)
        before = int(flat[-1])
        yield Batch(torch.from_numpy(tokens).to(device), torch.from_numpy(targets).to(device))
