"""`Batch`, what data, tasks and models exchange, and token ids as batches: windows of a text in
order, as evaluation reads it, and padded pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .shards import TokenFile

IGNORE_INDEX = -100
"""Target of a place that adds nothing to the loss, as in `torch.nn.functional.cross_entropy`."""

PER_EXAMPLE = ("labels", "features", "prior")
"""Fields of a `Batch` with a row for each labelled example, which may be read as several rows."""

TOKENS_PER_BATCH = 8192
MAX_STREAMS = 16
"""Rows that a text is evaluated in by a recurrent model, at most."""

Ids = NDArray[np.int64]


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
    """(E,) label of each example: int64 classes, or floating-point scores; (E, 2) log-probabilities
    of two answers under a reference model. The B / E rows of an example follow each other."""
    features: Tensor | None = None
    """(E, F) int64; the rows of a bag-of-words table that each example has (`word_features.py`)."""
    prior: Tensor | None = None
    """(E, L) outputs of a bag of words that was fitted without these examples."""
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
        assert self.positions is None and self.source is None
        assert self.labels is None and self.pool_index is None
        shape = (self.tokens.size(0) * parts, -1)
        return replace(self, tokens=self.tokens.reshape(shape), targets=self.targets.reshape(shape))

    def rows(self, part: slice) -> "Batch":
        """The rows of a slice, which must not cut a labelled example in two."""
        # rows of the slice, and the examples they belong to
        examples = slice(part.start // self.rows_per_example, part.stop // self.rows_per_example)
        of_rows: dict[str, Any] = {
            name: value[examples if name in PER_EXAMPLE else part]
            for name, value in vars(self).items()
            # positions (T,) are those of every row
            if torch.is_tensor(value) and not (name == "positions" and value.dim() == 1)
        }
        return replace(self, **of_rows)


def split_windows(batches: Iterator[Batch], parts: int) -> Iterator[Batch]:
    """Batches (B, T) as (B parts, T / parts); one whose length `parts` does not divide stays."""
    for batch in batches:
        divided = parts > 1 and batch.tokens.size(1) % parts == 0
        yield batch.split_sequences(parts) if divided else batch


def token_blocks(file: TokenFile, length: int) -> Iterator[Ids]:
    """All tokens in order as arrays (rows, length); the last window may be shorter, then it is an
    array of its own."""
    size = max(1, TOKENS_PER_BATCH // length) * length
    for start in range(0, len(file), size):
        ids = file.read(start, min(size, len(file) - start))
        whole = len(ids) // length * length  # tokens of complete windows
        if whole:
            yield ids[:whole].reshape(-1, length)
        if whole < len(ids):
            yield ids[None, whole:]


def eval_windows(file: TokenFile, context: int, eos: int, device: torch.device) -> Iterator[Batch]:
    """Next-token batches (B, context) of windows that do not overlap; every token is a target once.

    The first token of the file is predicted from `eos`, every other one from the tokens before it
    in its window.
    """
    before = eos
    for targets in token_blocks(file, context):
        # (rows, length) targets in reading order; inputs are the same ids shifted right by one
        flat = targets.reshape(-1)
        tokens = np.concatenate(([before], flat[:-1])).reshape(targets.shape)
        before = int(flat[-1])
        yield Batch(torch.from_numpy(tokens).to(device), torch.from_numpy(targets).to(device))


def eval_streams(file: TokenFile, context: int, eos: int, device: torch.device) -> Iterator[Batch]:
    """Next-token batches (rows, context) for a recurrent model; every token is a target once.

    The text is cut into a few long rows, which are read side by side. The first token of a row is
    predicted from the one before it alone, with an empty state: the loss is a little too high
    there, never too low.
    """
    total = len(file)
    # at least eight windows in each row, or the cold starts of the rows would weigh too much
    rows = max(1, min(MAX_STREAMS, TOKENS_PER_BATCH // context, total // (8 * context)))
    size = -(-total // rows)  # tokens of a row, rounded up: the last row may be shorter
    for place in range(0, size, context):
        tokens, targets = [], []
        width = min(context, size - place)
        for row in range(rows):
            start = row * size + place
            # targets left in this row and in the text
            count = max(0, min(width, total - start, (row + 1) * size - start))
            ids = file.read(start - 1, count + 1) if start and count else file.read(0, count)
            if start == 0:  # nothing precedes the first token
                ids = np.concatenate(([eos], ids))
            padded = np.full(width + 1, eos, dtype=np.int64)  # inputs and targets overlap
            padded[: len(ids)] = ids
            tokens.append(padded[:-1])
            targets.append(np.where(np.arange(width) < count, padded[1:], IGNORE_INDEX))
        yield Batch(
            torch.from_numpy(np.stack(tokens)).to(device),
            torch.from_numpy(np.stack(targets)).to(device),
            reset_state=place == 0,
        )


def collate_pairs(
    sources: Sequence[Ids],
    targets: Sequence[Ids],
    *,
    pad: int,
    device: torch.device,
    shape: tuple[int, int] | None = None,
) -> Batch:
    """Sources and targets of different lengths as one batch for an encoder-decoder, padded on the
    right.

    Args:
        sources, targets: token ids of each row. The decoder reads `pad` as a start token and then
            the target without its last token (Vaswani et al. 2017, section 3: shifted right).
        pad: padding of both; a padded place has position -1 in the source and no target.
        shape: lengths of source and target; the longest of each by default.
    """
    # one array for each field of the batch, filled row by row: (B, S) or (B, T)
    rows = len(sources)
    source_length, target_length = shape or (max(map(len, sources)), max(map(len, targets)))
    source = np.full((rows, source_length), pad, dtype=np.int64)
    source_positions = np.full((rows, source_length), -1, dtype=np.int64)
    tokens = np.full((rows, target_length), pad, dtype=np.int64)
    labels = np.full((rows, target_length), IGNORE_INDEX, dtype=np.int64)
    for row, (read, written) in enumerate(zip(sources, targets, strict=True)):
        source[row, : len(read)] = read
        source_positions[row, : len(read)] = np.arange(len(read))
        tokens[row, 1 : len(written)] = written[:-1]
        labels[row, : len(written)] = written
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(labels),
        source=torch.from_numpy(source),
        source_positions=torch.from_numpy(source_positions),
    ).to(device)
