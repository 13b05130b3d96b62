"""A row of a table in token ids, and what every fine-tuning task offers beside an `Objective`.

A task file that reads tables holds a class `Task(TableTask)` with its columns, how a row is encoded
(`encode`), and how encoded rows become a batch (`collate`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.batch import Batch
from ...errors import InputError
from ...tokenizers.base import Tokenizer
from ..base import BaseTask
from .columns import Column, Row

Ids = list[int]

BACKBONE = "backbone."
TABLE = "backbone.embed.token.weight"

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
    def max_len(self) -> int:
        """Tokens of its longest row or source, which the padding of a batch goes by."""
        return max(len(self.source or ()), *map(len, self.rows))


class SupervisedTask(BaseTask):
    """A task that is learned from the rows of a table."""

    COLUMNS: ClassVar[Mapping[str, Column]] = {}
    """What it reads, by its own names."""
    BACKBONES: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "encoder-decoder")
    """The kinds of backbone that can do it."""
    ANSWER_TYPE: ClassVar[str] = ""
    """How it is scored: labels, numbers, choices or texts."""
    ANSWER_COLUMN: ClassVar[str] = ""
    """The column that holds the right answer."""

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
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
    def gold_answer(cls, row: Row) -> Any:
        """The right answer of a row: a label, a place among choices, a score, or a text."""
        return row[cls.ANSWER_COLUMN]

    @classmethod
    def format_row(cls, row: Row) -> str:
        """A row without its answer, for a person."""
        return " | ".join(str(value) for value in cls.without_answer(row).values())


def pad_rows(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(B, longest) int64, filled on the right; the longest is rounded up, since each new length
    costs new kernels."""
    longest = -(-max(1, *map(len, rows)) // ROUND) * ROUND
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def padded_positions(rows: Sequence[Sequence[int]]) -> Tensor:
    """(B, longest) positions, -1 where there is padding on the right."""
    return pad_rows([range(len(row)) for row in rows], -1)


def count_tokens(examples: Sequence[Example]) -> int:
    """Tokens of the text that a batch of them reads."""
    return sum(example.length for example in examples)


def truncate_longest_first(parts: Sequence[Ids], room: int) -> tuple[list[Ids], int]:
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


def check_context(reach: int, needed: int, task: str) -> None:
    """Refuses a context in which nothing fits beside the special tokens.

    Raises:
        InputError: names the context.
    """
    if reach < needed:
        raise InputError(
            f"a context of {reach} tokens is too short for a task {task}: start from a run "
            f"with --model.context_length={needed} or more"
        )


TOKENS = 16_384
"""Tokens in one portion, padding among them."""


def length_bucketed_batches(examples: Sequence[Example]) -> Iterator[list[int]]:
    """Numbers of examples, the shortest first; the same ones always stand together."""
    order = sorted(range(len(examples)), key=lambda number: (examples[number].length, number))
    held: list[int] = []
    for number in order:
        # the longest is the newest, and all are padded to it
        if held and (len(held) + 1) * examples[number].length > TOKENS:
            yield held
            held = []
        held.append(number)
    if held:
        yield held


@torch.no_grad()
def transfer_weights(
    task: BaseTask, learned: Mapping[str, Tensor], same_answers: bool = False
) -> None:
    """Puts the weights of another task's model into a fresh one.

    A vocabulary that has grown keeps its old rows; the new ones are drawn from a normal
    distribution of the old ones' spread. What scored tokens goes on doing so where this task scores
    tokens; a head for labels stays fresh.

    Args:
        task: with fresh weights.
        learned: the state dict of a model of the same architecture and shape.
        same_answers: whether that model's head gives the same answers, in the same order.
    """
    mine = task.state_dict()
    for name, weight in learned.items():
        if name.startswith(BACKBONE):
            _copy(mine[name], weight)
    if same_answers:
        for name in mine.keys() & learned.keys():  # one may learn text or copy, the other not
            if not name.startswith(BACKBONE):
                _copy(mine[name], learned[name])
        return
    words = learned.get("words.weight", learned.get("head.weight"))
    place = "head.weight" if task.is_generative else "words.weight"
    if place in mine and words is not None and len(words) == len(learned[TABLE]):
        _copy(mine[place], words)


def _copy(mine: Tensor, learned: Tensor) -> None:
    old = len(learned)
    if len(mine) > old:
        mine[old:].normal_(0.0, float(learned.float().std()))
    mine[:old].copy_(learned)
