"""The windows that every rival reads, in the same order, and those that every rival is measured on.

A folder holds `tokens.npy` (the text), `starts.npy` (steps, rows: where the windows of each update
begin), `examined.npy` (windows of the held-out end) and `context.json` (their length).
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Batches:
    """Update number n reads row n of `starts`; after the last one it begins again."""

    def __init__(self, folder: str) -> None:
        place = Path(folder)
        self.tokens = np.load(place / "tokens.npy", mmap_mode="r")
        self.starts = np.load(place / "starts.npy")
        self.examined = np.load(place / "examined.npy")
        self.context_length: int = json.loads((place / "context.json").read_text())

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """(rows, context) tokens, and the tokens after them, int64."""
        return self._read(self.starts[number % len(self.starts)])

    def micro(self, number: int, rows: int) -> list[tuple[Tensor, Tensor]]:
        """The same in portions of `rows`, which must divide the whole."""
        tokens, targets = self.batch(number)
        assert len(tokens) % rows == 0, f"{rows} rows at once do not divide {len(tokens)}"
        return list(zip(tokens.split(rows), targets.split(rows), strict=True))

    def windows(self) -> list[tuple[Tensor, Tensor]]:
        """Held-out windows, (1, context) each."""
        return [self._read(start[None]) for start in self.examined]

    def _read(self, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        places = starts[:, None] + np.arange(self.context_length + 1)
        pieces = torch.from_numpy(self.tokens[places].astype(np.int64))
        return pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous()
