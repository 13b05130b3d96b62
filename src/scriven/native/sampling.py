"""Draws the next token of each row in one call of compiled code (sampling.cpp)."""

import struct
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from .library import load_library

Settings = tuple[float, float, float, int]
"""Temperature (0: greedy), top-p, min-p and top-k (0: all) of a row."""
SETTINGS = struct.Struct("=dddqd")  # with the random number: `Sampling` in sampling.cpp


def sample_natively(
    logits: Tensor, settings: Sequence[Settings], uniforms: Sequence[float]
) -> list[int] | None:
    """A token for each row of logits (B, V); -1 where none is finite. None: there is no library.

    Args:
        uniforms: for each row a number drawn evenly from [0, 1); any where it is greedy.
    """
    library = load_library()
    if library is None or logits.dtype != torch.float32 or logits.device.type != "cpu":
        return None
    logits = logits.contiguous()
    rows, vocab_size = logits.shape
    given = b"".join(
        SETTINGS.pack(*own, uniform) for own, uniform in zip(settings, uniforms, strict=True)
    )
    tokens = array("q", bytes(8 * rows))
    library.sample(logits.data_ptr(), rows, vocab_size, given, tokens.buffer_info()[0])
    return tokens.tolist()
