"""The training batches of all programs, in the same order, and the validation windows.

A folder holds `tokens.npy` (the text), `starts.npy` (steps, rows: the first token of each window),
`val_windows.npy` (windows of the validation part) and `context.json` (their length).
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Batches:
    """Step n reads row n of `starts`; after the last row it starts over."""

    def __init__(self, folder: str) -> None:
        place = Path(folder)
        self.tokens = np.load(place / "tokens.npy", mmap_mode="r")
        self.starts = np.load(place / "starts.npy")
        self.val_windows = np.load(place / "val_windows.npy")
        self.context_length: int = json.loads((place / "context.json").read_text())

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """(rows, context) tokens, and the tokens after them, int64."""
        return self._read(self.starts[number % len(self.starts)])

    def micro(self, number: int, rows: int) -> list[tuple[Tensor, Tensor]]:
        """The same in micro-batches of `rows`, which must divide the batch."""
        tokens, targets = self.batch(number)
        assert len(tokens) % rows == 0, f"{rows} rows do not divide {len(tokens)}"
        return list(zip(tokens.split(rows), targets.split(rows), strict=True))

    def windows(self) -> list[tuple[Tensor, Tensor]]:
        """Validation windows, (1, context) each."""
        return [self._read(start[None]) for start in self.val_windows]

    def _read(self, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        places = starts[:, None] + np.arange(self.context_length + 1)
        pieces = torch.from_numpy(self.tokens[places].astype(np.int64))
        return pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous()
