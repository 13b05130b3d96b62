"""The one thing models and tasks exchange: token ids, what should be predicted, and where from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""A target that is not counted."""


@dataclass(frozen=True)
class Batch:
    """B rows of T tokens."""

    tokens: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64; the token to predict at each place, or IGNORED."""
    at: Tensor | None = None
    """(T,) or (B, T) positions, negative for padding; None: 0, 1, 2 ..."""
    source: Tensor | None = None
    """(B, S) int64; the tokens an encoder reads."""
    source_at: Tensor | None = None
    """(B, S) positions of the source, negative for padding; None: 0, 1, 2 ..."""
    text: int | None = None
    """Tokens of the text that all these rows together read; None: those of `tokens`."""
    labels: Tensor | None = None
    """(E,) the answer of each labelled example: int64, or floating point for a score. The rows of
    an example follow each other, and each has as many, B / E."""
    ends: Tensor | None = None
    """(B,) int64; the place in each row whose hidden state stands for all of it, -1 for none."""
    fresh: bool = True
    """False where each row goes on where it ended in the batch before, so that what a model
    remembers of that batch stays true."""

    def counted(self) -> int:
        """What the loss is a mean over: labelled examples, or targets that count."""
        if self.labels is not None:
            return len(self.labels)
        return int((self.targets != IGNORED).sum())

    @property
    def rows_each(self) -> int:
        """Rows of one example."""
        return 1 if self.labels is None else self.tokens.size(0) // len(self.labels)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        return replace(self, **moved)

    @property
    def read(self) -> int:
        """Tokens of the text that were read for it, padding and marks not among them."""
        return self.tokens.numel() if self.text is None else self.text

    def split(self, rows: int) -> Iterator["Batch"]:
        """Micro-batches of at most `rows` rows, or labelled examples."""
        size = rows * self.rows_each
        if size >= self.tokens.size(0):
            yield self
            return
        for start in range(0, self.tokens.size(0), size):
            yield self.rows(slice(start, start + size))

    def cut(self, pieces: int) -> "Batch":
        """The same tokens in rows a so-manieth as long; each row's pieces follow each other.

        Only for rows of a text, where every token has a target and positions are 0, 1, 2 ...
        """
        if pieces == 1:
            return self
        assert self.at is None and self.source is None and self.labels is None and self.ends is None
        shape = (self.tokens.size(0) * pieces, -1)
        return replace(self, tokens=self.tokens.reshape(shape), targets=self.targets.reshape(shape))

    def rows(self, part: slice) -> "Batch":
        """Some of its rows; of labelled ones whole examples."""
        examples = slice(part.start // self.rows_each, part.stop // self.rows_each)
        return replace(
            self,
            tokens=self.tokens[part],
            targets=self.targets[part],
            at=self.at if self.at is None or self.at.dim() == 1 else self.at[part],
            source=None if self.source is None else self.source[part],
            source_at=None if self.source_at is None else self.source_at[part],
            labels=None if self.labels is None else self.labels[examples],
            ends=None if self.ends is None else self.ends[part],
        )
