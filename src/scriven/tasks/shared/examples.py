"""A row of a table in token ids, and what every fine-tuning task offers beside an `Objective`.

A task file that reads tables holds a class `Task(TableTask)` with its columns, how a row is encoded
(`encode`), and how encoded rows become a batch (`collate`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.batch import Batch
from ...errors import InputError
from ...tokenizers.base import Tokenizer
from ..base import Objective
from .columns import Column, Row

Ids = list[int]


ROUND = 8
"""Rows are filled up to a multiple of so many tokens."""


@dataclass(frozen=True)
class Example:
    """A row of a table, encoded."""

    rows: tuple[Ids, ...]
    """What the model reads: one row, or one for each answer or order."""
    targets: tuple[Ids, ...] | None = None
    """The token to predict at each place, or IGNORE_INDEX; None: none is."""
    source: Ids | None = None
    """What an encoder reads."""
    label: float | int | None = None
    """The answer, where it is known."""
    cut: int = 0
    """Tokens that did not fit into the context."""

    @property
    def length(self) -> int:
        """Tokens to read."""
        return sum(map(len, self.rows)) + len(self.source or ())

    @property
    def widest(self) -> int:
        """Tokens of its longest row or source, which the padding of a batch goes by."""
        return max(len(self.source or ()), *map(len, self.rows))


class TableTask(Objective):
    """A task that is learned from the rows of a table."""

    COLUMNS: ClassVar[Mapping[str, Column]] = {}
    """What it reads, by its own names."""
    KINDS: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "encoder-decoder")
    """The kinds of backbone that can do it."""
    SCORES: ClassVar[str] = ""
    """How it is scored: labels, numbers, choices or texts."""
    TRUTH: ClassVar[str] = ""
    """The column that holds the right answer."""

    @classmethod
    def survey(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """What must be known of all training rows: label names, the range of a score.

        Raises:
            InputError: nothing can be learned from them.
        """
        return {}

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """A row with the task's columns in token ids; without an answer where there is none.

        Raises:
            BadValue: the row cannot be used.
        """
        raise NotImplementedError

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """Examples as a batch."""
        raise NotImplementedError

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """Refuses a row from which nothing can be learned, though each of its values is fine.

        Raises:
            BadValue: says why.
        """

    @classmethod
    def without_answer(cls, row: Row) -> Row:
        """A row without what the model should find."""
        return {name: value for name, value in row.items() if not cls.COLUMNS[name].answer}

    @classmethod
    def truth(cls, row: Row) -> Any:
        """The right answer of a row: a label, a place among choices, a score, or a text."""
        return row[cls.TRUTH]

    @classmethod
    def show(cls, row: Row) -> str:
        """A row without its answer, for a person."""
        return " | ".join(str(value) for value in cls.without_answer(row).values())


def filled(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(B, longest) int64, filled on the right; the longest is rounded up, since each new length
    costs new kernels."""
    longest = -(-max(1, *map(len, rows)) // ROUND) * ROUND
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def places(rows: Sequence[Sequence[int]]) -> Tensor:
    """(B, longest) positions, -1 where there is padding on the right."""
    return filled([range(len(row)) for row in rows], -1)


def read_once(examples: Sequence[Example]) -> int:
    """Tokens of the text that a batch of them reads."""
    return sum(example.length for example in examples)


def fit(parts: Sequence[Ids], room: int) -> tuple[list[Ids], int]:
    """Parts that together have at most `room` tokens, and how many were lost.

    The longest part loses its end first.
    """
    sizes = [len(part) for part in parts]
    lost = max(0, sum(sizes) - room)
    if not lost:
        return list(parts), 0
    least, most = 0, max(sizes)  # the largest limit with which they fit
    while least < most:
        middle = (least + most + 1) // 2
        if sum(min(size, middle) for size in sizes) <= room:
            least = middle
        else:
            most = middle - 1
    spare = room - sum(min(size, least) for size in sizes)
    kept = []
    for size in sizes:
        more = size > least and spare > 0
        spare -= more
        kept.append(min(size, least) + more)
    return [part[:size] for part, size in zip(parts, kept, strict=True)], lost


def check_reach(reach: int, needed: int, task: str) -> None:
    """Refuses a context in which nothing fits beside the special tokens.

    Raises:
        InputError: names the context.
    """
    if reach < needed:
        raise InputError(
            f"a context of {reach} tokens is too short for a task {task}: start from a run "
            f"with --model.context_length={needed} or more"
        )
