"""Tasks that score the words of a text: their tags, or where an answer begins and ends.

An input is start token, text, extract token, as in the GPT-1 paper (section 3.3), with a question
and a delimiter before the text where there is one. A word is scored at its last token. A decoder
knows what stands left of a token only, so it reads the text a second time, after a delimiter, and
its words are scored there: at the second reading it knows all of the first (Springer et al. 2024,
Repetition Improves Language Model Embeddings). An encoder reads the text once; an encoder-decoder
reads the same row as its source and in its decoder, as BART does (Lewis et al. 2019, section 3.2).

A text that does not fit is read in several windows, which are the rows of one example. Examples
count equally, so a batch can be split anywhere between them.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.batch import IGNORE_INDEX, Batch
from ...nn.block import zeros
from ...nn.cache import Cache
from ...nn.dropout import dropout
from ...tokenizers.base import Tokenizer
from ..base import UNLIMITED_CONTEXT, Output, at_least_float32
from .supervised import (
    Example,
    Ids,
    SupervisedTask,
    check_context,
    count_tokens,
    pad_rows,
    padded_positions,
)

_WORD = re.compile(r"\w+|[^\w\s]")
_SHORTEST = 12  # tokens of a context in which a question and a part of a text fit


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word of a text begins and ends: a run of letters and digits, or another mark."""
    return [match.span() for match in _WORD.finditer(text)]


class WordScoring(SupervisedTask):
    """A linear layer on the last token of each word. A task file adds columns, how a row becomes
    words and targets, and the loss."""

    EXTRA_TOKENS = ("start", "delimiter", "extract")
    is_generative = False
    echo_prompt = False
    OVERLAP: ClassVar[float] = 0.0  # fraction of a window that the next one reads again

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: dict[str, Ids] = {}  # the tokens of words that were encoded already

    @property
    def num_outputs(self) -> int:
        """Outputs of the linear layer for each word."""
        raise NotImplementedError

    def make_head(self) -> nn.Module:
        """The linear layer."""
        return nn.Linear(self.backbone.config.d_model, self.num_outputs, bias=False)

    def init_weights(self) -> None:
        """Draws fresh weights; every answer is equally likely at first."""
        self.backbone.init_weights()
        if isinstance(self.head, nn.Linear):
            zeros(self.head.weight)
        else:
            self.head.init_weights()

    # ------------------------------------------------------------------ inputs

    def encode_words(
        self,
        tokenizer: Tokenizer,
        words: Sequence[str],
        targets: Sequence[int],
        before: Sequence[str] = (),
        at_end: int = IGNORE_INDEX,
    ) -> Example:
        """The windows of a text, each with the target of every word at the word's last token.

        Args:
            words: of the text; each is encoded with a space before it.
            targets: one for each word.
            before: words to read before each window, such as those of a question.
            at_end: the target of the extract token.
        """
        context = self.backbone.max_position or UNLIMITED_CONTEXT
        check_context(context, _SHORTEST, "that scores words")
        twice = self.backbone.kind == "decoder"
        asked = [token for piece in self._pieces(tokenizer, before) for token in piece]
        question = asked[: context // 3]
        prefix = [self.special["start"], *question] + [self.special["delimiter"]] * bool(asked)
        room = context - len(prefix) - 1
        room = (room - 1) // 2 if twice else room
        whole = self._pieces(tokenizer, words)
        pieces = [piece[:room] or [self.special["pad"]] for piece in whole]
        cut = sum(len(piece) for piece in whole if len(piece) > room) - room * sum(
            len(piece) > room for piece in whole
        )
        cut += len(asked) - len(question)
        rows, row_targets, firsts = [], [], []
        for first, end in _windows([len(piece) for piece in pieces], room, self.OVERLAP):
            text = [token for piece in pieces[first:end] for token in piece]
            ignored = [IGNORE_INDEX] * len(prefix)
            row = [*prefix, *text]
            if twice:
                row += [self.special["delimiter"], *text]
                ignored += [IGNORE_INDEX] * (len(text) + 1)
            for piece, target in zip(pieces[first:end], targets[first:end], strict=True):
                ignored += [*[IGNORE_INDEX] * (len(piece) - 1), target]
            rows.append([*row, self.special["extract"]])
            row_targets.append([*ignored, at_end])
            firsts.append(first)
        return Example(tuple(rows), tuple(row_targets), cut=cut, firsts=tuple(firsts))

    def _pieces(self, tokenizer: Tokenizer, words: Sequence[str]) -> list[Ids]:
        """The tokens of each word, the same wherever it stands."""
        for word in words:
            if word not in self._known:
                self._known[word] = tokenizer.encode(f" {word}")
        return [self._known[word] for word in words]

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """(B, T) rows padded on the right; an example with fewer windows than another gets empty
        ones, so that all have the same number of rows."""
        rows_each = max(len(example.rows) for example in examples)
        rows: list[Ids] = []
        targets: list[Sequence[int]] = []
        for example in examples:
            missing = rows_each - len(example.rows)
            rows += [*example.rows, *[[]] * missing]
            targets += [*(example.targets or ()), *[[]] * missing]
        pad = self.special["pad"]
        tokens = pad_rows(rows, pad)  # (B, T)
        positions = padded_positions([row or [pad] for row in rows])
        is_pair, is_encoder = (
            self.backbone.kind == "encoder-decoder",
            self.backbone.kind == "encoder",
        )
        return Batch(
            tokens, pad_rows(targets, IGNORE_INDEX), positions if is_encoder else None,
            source=tokens if is_pair else None, source_positions=positions if is_pair else None,
            text_tokens=count_tokens(examples), labels=torch.zeros(len(examples)),
        ).to(device)  # fmt: skip

    # ------------------------------------------------------------------ answers

    def word_logits(self, batch: Batch, state: Cache | None = None) -> Tensor:
        """(E, R, T, outputs) of the R rows of each example, float32 or better."""
        hidden = self.hidden(batch, state)  # (B, T, C)
        hidden = dropout(hidden, self.backbone.config.dropout, self.training)
        logits = at_least_float32(self.head_scores(hidden, batch))
        return logits.view(-1, batch.rows_per_example, *logits.shape[1:])

    def head_scores(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, C) -> (B, T, outputs)"""
        scores: Tensor = self.head(hidden)
        return scores

    def forward(self, batch: Batch, state: Cache | None = None) -> Output:
        """Loss of a batch, summed over its examples."""
        assert batch.labels is not None
        logits = self.word_logits(batch, state).flatten(1, 2)  # (E, W, outputs)
        targets = batch.targets.view(len(logits), -1)  # (E, W)
        loss, correct = self.word_loss(logits, targets)
        count = torch.tensor(len(batch.labels), device=loss.device)
        return Output(self.add_aux_loss(loss, count), count, correct)

    def word_loss(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, right answers), summed over the examples.

        logits: (E, W, outputs). targets: (E, W), IGNORE_INDEX at what is no word's last token.
        """
        raise NotImplementedError

    def predictions(self, batch: Batch) -> Tensor:
        """One entry for each example, which `format_answer` reads as a list."""
        raise NotImplementedError

    def format_answer(
        self, prediction: Any, row: dict[str, Any], example: Example
    ) -> tuple[str, Any, tuple[float, ...]]:
        """(answer as text, its value, probabilities) of one entry of `predictions`."""
        raise NotImplementedError


def _windows(lengths: Sequence[int], room: int, overlap: float) -> list[tuple[int, int]]:
    """(first word, one past the last) of each window of at most `room` tokens."""
    windows, first = [], 0
    while True:
        end, used = first, 0
        while end < len(lengths) and used + lengths[end] <= room:
            used += lengths[end]
            end += 1
        windows.append((first, end))
        if end >= len(lengths):
            return windows
        # the next window goes back as far as the overlap reaches, but always moves on
        back, again = end, 0
        while back - 1 > first and again + lengths[back - 1] <= overlap * room:
            back -= 1
            again += lengths[back]
        first = back
