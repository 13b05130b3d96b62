"""Supervised fine-tuning: tasks that learn from the rows of a table, and their batches.

Such a task has its columns, how a row becomes token ids (`encode`), and how encoded rows become a
batch (`collate`).
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

BAG = "bag"
"""The table of a bag of words beside a head (`word_features.py`)."""
BAG_PADDING, MIN_BAG_ROWS, MAX_BAG_ROWS = 0, 512, 1 << 18
"""The row that no text has, and the fewest and most rows."""

PUNCTUATION = {"delimiter": "\n", "extract": ":"}
"""What a text has in the place of a special token (`stand_ins`)."""

PAD_MULTIPLE = 8  # rows are padded to a multiple of so many tokens
TOKENS_PER_BATCH = 4096
"""Tokens of a batch in evaluation and prediction, padding included: more rows at once differ more
in length, and padding costs as much as text."""


@dataclass(frozen=True)
class Example:
    """A row of a table, encoded."""

    rows: tuple[Ids, ...]  # what the model reads: one row, or one for each answer or order
    targets: tuple[Ids, ...] | None = None
    """The token to predict at each position, or IGNORE_INDEX; None: no token is predicted."""
    source: Ids | None = None  # the source, for an encoder
    label: float | int | tuple[float, ...] | None = None  # the answer, where it is known
    cut: int = 0  # tokens that did not fit into the context
    firsts: tuple[int, ...] = ()  # the number of the first word of each row, of a text in windows
    features: "array[int]" = field(default_factory=lambda: array("i"))
    """Rows of the bag-of-words table, where the head adds one (`word_features.py`)."""
    prior: "array[float]" = field(default_factory=lambda: array("f"))
    """While training: the outputs of a bag of words that was fitted without this row."""

    @property
    def length(self) -> int:
        """Tokens to read."""
        return sum(map(len, self.rows)) + len(self.source or ())

    @property
    def max_len(self) -> int:
        """Tokens of its longest row or source, which decides the padding of its batch."""
        return max(len(self.source or ()), *map(len, self.rows))


class SupervisedTask(BaseTask):
    """A task that learns from the rows of a table."""

    COLUMNS: ClassVar[Mapping[str, Column]] = {}
    """The columns it reads, by the task's names for them."""
    BACKBONES: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "encoder-decoder")
    """The kinds of backbone that can learn it."""
    ANSWER_TYPE: ClassVar[str] = ""  # decides the metrics: a key of `KINDS` in evaluate/metrics
    ANSWER_COLUMN: ClassVar[str] = ""  # the column that holds the right answer

    YIELDS: ClassVar[bool] = False
    """Whether any other task that fits the columns of a table is meant rather than this one."""
    UNLABELLED: ClassVar[frozenset[str]] = frozenset()  # labels that mark a row without one

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """What the model must know of all training rows: label names, or the range of scores.
        Raises InputError where nothing can be learned from them."""
        return {}

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """A row with the task's columns in token ids, without an answer where there is none.
        Raises BadValue where it cannot be used."""
        raise NotImplementedError

    def example(self, tokenizer: Tokenizer, row: Row) -> Example:
        """As `encode`, with what else a head sees of the row."""
        return self.encode(tokenizer, row)

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """A batch of examples, padded."""
        raise NotImplementedError

    @classmethod
    def fits(cls, chosen: Iterable[str], answers: bool = True) -> bool:
        """Whether a table with these of its columns suffices.

        Args:
            answers: whether the columns of right answers are needed too.
        """
        return True

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """Raises BadValue for a row that teaches nothing, though each of its values is fine."""

    @classmethod
    def check_fields(cls, fields: Row) -> None:
        """Raises NothingToLearn for a row whose other columns say that it is not to be learned."""

    @classmethod
    def without_answer(cls, row: Row) -> Row:
        """A row without the answer that the model predicts."""
        return {name: value for name, value in row.items() if not cls.COLUMNS[name].answer}

    @classmethod
    def group_key(cls, row: Row) -> Row:
        """What rows have in common that must be in the same part of a table: the question."""
        return cls.without_answer(row)

    @classmethod
    def shown(cls, row: Row) -> Row:
        """What a model and its baselines see of a row when they are scored on it."""
        return cls.without_answer(row)

    @classmethod
    def writes_answers(cls) -> bool:
        """Whether it is scored by the texts that it generates."""
        return cls.ANSWER_TYPE in ("texts", "turns")

    @classmethod
    def gold_answer(cls, row: Row) -> Any:
        """The right answer of a row: a label, the index of a choice, a score, a text, ..."""
        return row[cls.ANSWER_COLUMN]

    @classmethod
    def format_row(cls, row: Row) -> str:
        """A row without its answer, for display."""
        return " | ".join(str(value) for value in cls.without_answer(row).values())


def pad_rows(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(B, T) int64, padded on the right with `value`."""
    # rounded up, since each new length costs new kernels
    length = -(-max(1, *map(len, rows)) // PAD_MULTIPLE) * PAD_MULTIPLE
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def padded_positions(rows: Sequence[Sequence[int]]) -> Tensor:
    """(B, T) positions of tokens in rows padded on the right, -1 for padding."""
    return pad_rows([range(len(row)) for row in rows], -1)


def count_tokens(examples: Sequence[Example]) -> int:
    """Tokens that a batch of these examples reads, without padding."""
    return sum(example.length for example in examples)


def truncate_longest_first(parts: Sequence[Ids], room: int) -> tuple[list[Ids], int]:
    """Parts that together have at most `room` tokens, and how many tokens were cut.

    The longest part loses its end first, as in transformers' `longest_first`.
    """
    sizes = [len(part) for part in parts]
    cut = max(0, sum(sizes) - room)
    if not cut:
        return list(parts), 0
    # 1. by bisection, the largest common limit with which all parts fit
    limit, highest = 0, max(sizes)
    while limit < highest:
        middle = (limit + highest + 1) // 2
        if sum(min(size, middle) for size in sizes) <= room:
            limit = middle
        else:
            highest = middle - 1
    # 2. what is left over, one token for each of the first parts that were cut
    spare = room - sum(min(size, limit) for size in sizes)
    lengths = []
    for size in sizes:
        extra = size > limit and spare > 0
        spare -= extra
        lengths.append(min(size, limit) + extra)
    return [part[:length] for part, length in zip(parts, lengths, strict=True)], cut


def check_context(context: int, needed: int, task: str) -> None:
    """Raises InputError for a context in which nothing fits beside the special tokens."""
    if context < needed:
        raise InputError(
            f"a context of {context} tokens is too short for a task {task}: start from a run "
            f"with --model.context_length={needed} or more"
        )


def length_bucketed_batches(examples: Sequence[Example]) -> Iterator[list[int]]:
    """Indices of examples of similar length, the shortest first, in batches that fit into memory.

    A function of the examples alone, so that evaluation always sums the same batches.
    """
    # the index breaks ties, so that the order does not depend on the sort
    order = sorted(range(len(examples)), key=lambda index: (examples[index].length, index))
    batch: list[int] = []
    for index in order:
        # the newest is the longest, and all are padded to it
        if batch and (len(batch) + 1) * examples[index].length > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.no_grad()
def transfer_weights(
    task: BaseTask,
    pretrained: Mapping[str, Tensor],
    same_answers: bool = False,
    near: Mapping[int, int] | None = None,
) -> None:
    """Starts a task with fresh weights from those of a model of the same architecture and shape.

    A vocabulary that has grown keeps its old rows; the new ones are drawn from a normal
    distribution with the old rows' standard deviation. An output matrix over tokens is
    transferred where this task scores tokens; a head for labels stays fresh, unless it has the
    `same_answers`.

    Args:
        near: around a frozen backbone, which has to know what it reads: of each new token an old
            one, near whose embedding that of the new one starts (`stand_ins`).
    """
    # 1. the backbone, and the bag of words, which was fitted to the rows of this task
    weights = task.state_dict()
    if BAG in weights and BAG in pretrained:
        weights[BAG].copy_(pretrained[BAG])
    for name, weight in pretrained.items():
        if name.startswith(BACKBONE):
            _copy_rows(weights[name], weight, near if name == TABLE else None)
    if same_answers:
        # either may lack an output matrix for text, or a copy head
        for name in weights.keys() & pretrained.keys():
            if not name.startswith(BACKBONE) and name != BAG:
                _copy_rows(weights[name], pretrained[name])
        return
    # 2. a classifier keeps its output matrix over tokens in `words`, other tasks in `head`
    output = pretrained.get("words.weight", pretrained.get("head.weight"))
    name = "head.weight" if task.is_generative else "words.weight"
    if name in weights and output is not None and len(output) == len(pretrained[TABLE]):
        _copy_rows(weights[name], output)


def stand_ins(tokenizer: Tokenizer) -> dict[int, int]:
    """Of each special token one that a text has in such a place: a line break between two parts, a
    colon before an answer, and otherwise the end of a text.

    A model that has never been fine-tuned tells much more of a text after a colon than after its
    end (LOG.md).
    """
    found = {}
    for name, id in tokenizer.special_token_ids.items():
        ids = tokenizer.encode(PUNCTUATION[name]) if name in PUNCTUATION else []
        is_known = ids and ids[-1] not in tokenizer.special_token_ids.values()
        found[id] = ids[-1] if is_known else tokenizer.eos
    return found


def _copy_rows(weight: Tensor, pretrained: Tensor, near: Mapping[int, int] | None = None) -> None:
    """Copies into the first rows, and draws the others; `near` old rows, if there are any."""
    old = len(pretrained)
    if len(weight) > old:
        std = float(pretrained.float().std())
        weight[old:].normal_(0.0, std if near is None else 0.1 * std)
        for new, like in (near or {}).items():
            if new >= old:
                weight[new] += pretrained[like]
    weight[:old].copy_(pretrained)
