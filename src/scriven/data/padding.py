"""Sources and targets of different lengths as one batch for an encoder-decoder."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .batch import IGNORED, Batch

Ids = NDArray[np.int64]


def padded(
    sources: Sequence[Ids],
    targets: Sequence[Ids],
    *,
    pad: int,
    device: torch.device,
    shape: tuple[int, int] | None = None,
) -> Batch:
    """Rows filled on the right.

    Args:
        sources, targets: token ids of each row. The decoder reads `pad` as a start and then the
            target without its last token (Vaswani et al. 2017, section 3: shifted right).
        pad: fills both; a filled place has position -1 in the source and no target.
        shape: of source and target; the longest of each by default.
    """
    rows = len(sources)
    longest = shape or (max(map(len, sources)), max(map(len, targets)))
    source = np.full((rows, longest[0]), pad, dtype=np.int64)
    source_at = np.full((rows, longest[0]), -1, dtype=np.int64)
    tokens = np.full((rows, longest[1]), pad, dtype=np.int64)
    wanted = np.full((rows, longest[1]), IGNORED, dtype=np.int64)
    for row, (read, written) in enumerate(zip(sources, targets, strict=True)):
        source[row, : len(read)] = read
        source_at[row, : len(read)] = np.arange(len(read))
        tokens[row, 1 : len(written)] = written[:-1]
        wanted[row, : len(written)] = written
    made = [torch.from_numpy(each).to(device) for each in (tokens, wanted, source, source_at)]
    return Batch(made[0], made[1], source=made[2], source_at=made[3])
