"""Dropout (Srivastava et al. 2014): zeroes a random fraction of elements while training.

On a CPU PyTorch draws a floating-point number for each element; here one draw of 64 bits decides
over four elements, in half the time (bench/results.jsonl).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 1 << 16
"""Resolution of the dropout probability: 16 random bits decide over an element."""


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """x with about a fraction `p` of its elements zero and the others scaled up to the same mean.

    Draws from PyTorch's random state, so a resumed run draws what it would have drawn.
    """
    if not training or p <= 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    # an element is dropped where its bits are below the threshold
    threshold = min(LEVELS - 1, round(p * LEVELS))
    # one int64 holds four int16, each uniform in -LEVELS/2 .. LEVELS/2 - 1
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
    # the rest is scaled by 1 / (1 - p), so that the expectation stays
    keep = (bits >= threshold - LEVELS // 2).to(x.dtype)
    return x * keep.mul_(LEVELS / (LEVELS - threshold))
