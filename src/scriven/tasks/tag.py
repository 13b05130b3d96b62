"""Tagging: each word of a text gets a tag, such as B-PER (begins a person's name), I-PER (goes on)
or O (outside of all), as in CoNLL-2003 (Tjong Kim Sang & De Meulder 2003).

`shared/words.py` says what a model reads. Cross entropy at the last token of each word, a mean over
the words of each text.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import IGNORE_INDEX, Batch
from ..errors import DamagedError, InputError
from ..tokenizers.base import Tokenizer
from .shared.columns import BadValue, Column, Row, label, parse_json_list, text
from .shared.supervised import Example
from .shared.words import WordScoring


def _words(value: Any) -> list[str]:
    """The words of a text: a list, also as JSON in a text, or a text that is split at spaces."""
    value = parse_json_list(value)
    words = text(value).split() if isinstance(value, str) else value
    if not isinstance(words, list) or not words:
        raise BadValue("holds no list of words")
    return [text(word) for word in words]


def _tags(value: Any) -> list[str]:
    """A tag for each word, as `_words`."""
    value = parse_json_list(value)
    tags = value.split() if isinstance(value, str) else value
    if not isinstance(tags, list):
        raise BadValue("holds no list of tags")
    return [label(tag) for tag in tags]


class Tag(WordScoring):
    """tokens -> tags."""

    COLUMNS: ClassVar = {
        "tokens": Column(("tokens", "words"), _words, also=("text", "sentence")),
        "tags": Column(("tags", "ner_tags", "pos_tags", "labels"), _tags, answer=True),
    }
    ANSWER_TYPE = "tags"
    ANSWER_COLUMN = "tags"
    loss_unit = "text"
    selection_metric = "loss"

    @property
    def num_outputs(self) -> int:
        """One for each tag."""
        if not self.task_config.get("labels"):  # of a record that was edited
            raise DamagedError("scriven.json: finetune names no labels")
        return len(self.task_config["labels"])

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """The names of the tags, sorted, which must differ."""
        names = sorted({tag for row in rows for tag in row["tags"]})
        if len(names) < 2:
            raise InputError(f"every word has the tag {names[0]!r}: there is nothing to tell apart")
        return {"labels": names}

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """As many tags as words."""
        if len(row["tokens"]) != len(row["tags"]):
            raise BadValue(f"has {len(row['tokens'])} tokens and {len(row['tags'])} tags")

    @classmethod
    def gold_answer(cls, row: Row) -> tuple[str, ...]:
        """The tags."""
        return tuple(row["tags"])

    @classmethod
    def format_row(cls, row: Row) -> str:
        """The words."""
        return " ".join(row["tokens"])

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, words, extract; a tag that training never saw is not learned."""
        names = self.task_config["labels"]
        number = {name: index for index, name in enumerate(names)}
        # in prediction any target marks the words
        tags = row.get("tags") or names[:1] * len(row["tokens"])
        targets = [number.get(tag, IGNORE_INDEX) for tag in tags]
        return self.encode_words(tokenizer, row["tokens"], targets)

    def word_loss(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy and accuracy, each a mean over the words of an example."""
        is_word = targets != IGNORE_INDEX  # (E, W)
        share = is_word / is_word.sum(1, keepdim=True).clamp(min=1).to(logits.dtype)
        smoothing = self.label_smoothing if self.training else 0.0
        if self.criterion is None or not self.training:
            losses = F.cross_entropy(
                logits.mT, targets, reduction="none", label_smoothing=smoothing
            )
            loss = (losses * share).sum()
        else:
            loss = self.criterion(logits[is_word], targets[is_word]) * len(targets)
        right = (logits.detach().argmax(-1) == targets) * share
        return loss, right.sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, R, T) the likeliest tag at each token."""
        return self.word_logits(batch).argmax(-1)

    def format_answer(
        self, prediction: Sequence[Sequence[int]], row: Row, example: Example
    ) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
        """The tags of the words."""
        assert example.targets is not None
        names = self.task_config["labels"]
        # a batch may have more rows than the example, and longer ones
        tags = tuple(
            names[tag]
            for found, targets in zip(prediction, example.targets, strict=False)
            for tag, target in zip(found, targets, strict=False)
            if target != IGNORE_INDEX
        )
        return " ".join(tags), tags, ()


Task = Tag
