"""`Batch`: what data, tasks and models exchange."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

IGNORE_INDEX = -100
"""Target of a place that adds nothing to the loss, as in `torch.nn.functional.cross_entropy`."""


@dataclass(frozen=True)
class Batch:
    """B rows of T tokens, with targets or labels."""

    tokens: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64; the token to predict at each place, or IGNORE_INDEX."""
    positions: Tensor | None = None
    """(T,) or (B, T) positions, negative for padding; None: 0, 1, 2 ..."""
    source: Tensor | None = None
    """(B, S) int64; input tokens of an encoder."""
    source_positions: Tensor | None = None
    """(B, S) positions of the source, negative for padding; None: 0, 1, 2 ..."""
    text_tokens: int | None = None
    """Tokens of the user's text in all these rows together, without padding and special tokens;
    None: all of `tokens`."""
    labels: Tensor | None = None
    """(E,) label of each example: int64 classes, or floating-point scores. The B / E rows of an
    example follow each other."""
    pool_index: Tensor | None = None
    """(B,) int64; the place in each row whose hidden state represents the row, -1 for none."""
    reset_state: bool = True
    """Whether rows start with an empty recurrent state; False where row i continues row i of the
    batch before."""

    def num_targets(self) -> int:
        """Number of terms that the loss is averaged over: labelled examples, or targets other than
        IGNORE_INDEX."""
        if self.labels is not None:
            return len(self.labels)
        return int((self.targets != IGNORE_INDEX).sum())

    @property
    def num_tokens(self) -> int:
        """Tokens of the user's text, without padding and special tokens."""
        return self.tokens.numel() if self.text_tokens is None else self.text_tokens

    @property
    def rows_per_example(self) -> int:
        """Rows of one labelled example."""
        return 1 if self.labels is None else self.tokens.size(0) // len(self.labels)

    def to(self, device: torch.device) -> "Batch":
        """Copies the batch to a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        return replace(self, **moved)

    def split(self, rows: int) -> Iterator["Batch"]:
        """Micro-batches of at most `rows` rows, or of at most `rows` labelled examples."""
        # an example is never divided: its loss needs all of its rows
        size = rows if self.labels is None else rows * self.rows_per_example
        if size >= self.tokens.size(0):
            yield self
            return
        for start in range(0, self.tokens.size(0), size):
            yield self.rows(slice(start, start + size))

    def split_sequences(self, parts: int) -> "Batch":
        """Splits each row into `parts` shorter rows, (B, T) -> (B parts, T / parts).

        Only for rows of a text, where every token has a target and positions are 0, 1, 2 ...
        """
        if parts == 1:
            return self
        assert self.positions is None and self.source is None
        assert self.labels is None and self.pool_index is None
        shape = (self.tokens.size(0) * parts, -1)
        return replace(self, tokens=self.tokens.reshape(shape), targets=self.targets.reshape(shape))

    def rows(self, part: slice) -> "Batch":
        """The rows of a slice, which must not cut a labelled example in two."""
        # rows of the slice, and the examples they belong to
        examples = slice(part.start // self.rows_per_example, part.stop // self.rows_per_example)
        of_rows: dict[str, Any] = {
            name: value[examples if name == "labels" else part]
            for name, value in vars(self).items()
            # positions (T,) are those of every row
            if torch.is_tensor(value) and not (name == "positions" and value.dim() == 1)
        }
        return replace(self, **of_rows)
