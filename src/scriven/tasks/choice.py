"""Multiple choice, also for questions with given answers (GPT-1 paper, section 3.3).

The context with each answer is a row, and the rows' scores go through a softmax. Where a table has
a question beside its context, the question stands after it. The choices are a list in one column,
or stand in columns of their own; the answer is an index from 0, a letter or a text. Only the row
with the right answer has a language-model loss. A context that is too long loses its beginning, an
answer its end.

With `lm_score_weight` a decoder starts from what it knows: an answer's score is that of the linear
layer, plus how much likelier the context makes the answer than it is by itself, in nats times that
weight (pointwise mutual information: Holtzman et al. 2021, section 3). As the layer starts at zero,
an untrained model chooses as zero-shot scoring does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..tokenizers.base import Tokenizer
from .shared.classification import SequenceClassification
from .shared.columns import BadValue, Column, Row, text, texts
from .shared.supervised import PAD_MULTIPLE, Example

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _answer(value: Any) -> int | str:
    """The index of the right answer, from 0, or its text."""
    return value if isinstance(value, int) and not isinstance(value, bool) else text(value)


@dataclass(frozen=True)
class AnswerSpan:
    """The tokens of each row's answer: those after `start` and before `end`."""

    start: Tensor  # (B,) positions of the delimiter
    end: Tensor  # (B,) positions of the extract token; before `start` where a row has no answer

    def positions(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The position before each token of the answers in rows (B, T).

        Returns:
            (B, N) positions, N rounded up as the lengths of rows are, and (B, N) bool: which count.
        """
        longest = int((self.end - self.start).max()) - 1
        count = max(1, min(-(-longest // PAD_MULTIPLE) * PAD_MULTIPLE, tokens.size(1) - 2))
        positions = self.start[:, None] + torch.arange(count, device=tokens.device)
        return positions.clamp(max=tokens.size(1) - 2), positions + 1 < self.end[:, None]

    def without_context(self, tokens: Tensor, first: int) -> tuple[Tensor, "AnswerSpan"]:
        """The answers as if nothing stood before them: (B, N + 2) the token `first`, the delimiter
        and the answer; and their spans there."""
        positions, _ = self.positions(tokens)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        start_token = torch.full_like(positions[:, :1], first)  # (B, 1)
        delimiter = tokens[rows, positions[:, :1]]  # (B, 1)
        alone = torch.cat([start_token, delimiter, tokens[rows, positions + 1]], 1)
        start = torch.ones_like(self.start)
        return alone, AnswerSpan(start, start + self.end - self.start)


class Choice(SequenceClassification):
    """context, choices -> answer."""

    COLUMNS: ClassVar = {
        "context": Column(("context", "passage", "article", "question", "premise", "prompt"), text),
        "choices": Column(("choices", "options", "answers", "endings"), texts, series=True),
        "answer": Column(("answer", "label", "correct", "answerKey"), _answer, answer=True),
        "question": Column(("question",), text, joins="context"),
    }
    ANSWER_TYPE = "choices"
    ANSWER_COLUMN = "answer"

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """A row for each answer: start, context, delimiter, answer, extract."""
        room, context = self.room(2), tokenizer.encode(row["context"])
        rows, most_cut = [], 0
        for choice in row["choices"]:
            ids = tokenizer.encode(choice)
            # the answer gets at least half of the room, and more where the context needs less
            answer = ids[: max(room // 2, room - len(context))]
            before = context[max(0, len(context) - (room - len(answer))) :]
            most_cut = max(most_cut, len(ids) - len(answer) + len(context) - len(before))
            rows.append(self.join_parts([before, answer])[0])
        label = choice_index(row.get("answer"), row["choices"])
        return Example(tuple(rows), label=label, cut=most_cut)

    def lm_rows(self, examples: Sequence[Example], rows_each: int) -> Tensor:
        """(B,) bool: the rows with the right answers."""
        return torch.tensor([i == each.label for each in examples for i in range(rows_each)])

    def scores(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, C) -> (E, choices)"""
        scores = super().scores(hidden, batch)
        if not self.lm_score_weight:
            return scores
        assert batch.pool_index is not None
        delimiter = (batch.tokens == self.special["delimiter"]).int().argmax(1)  # (B,)
        answer = AnswerSpan(delimiter, batch.pool_index)
        # pointwise mutual information: log p(answer | context) - log p(answer)
        alone, alone_span = answer.without_context(batch.tokens, self.special["start"])
        information = self._log_prob(hidden, batch.tokens, answer)
        information = information - self._log_prob(self.backbone(alone), alone, alone_span)
        return scores + self.lm_score_weight * information.view_as(scores).to(scores.dtype)

    def _log_prob(self, hidden: Tensor, tokens: Tensor, answer: AnswerSpan) -> Tensor:
        """(B,) log-probability of each row's answer."""
        positions, is_answer = answer.positions(tokens)  # (B, N)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        logits = self.lm_logits(hidden[rows, positions])  # (B, N, V)
        losses = F.cross_entropy(logits.mT, tokens[rows, positions + 1], reduction="none")
        log_prob: Tensor = -(losses * is_answer).sum(1)
        return log_prob

    def pool(self, last: Tensor, batch: Batch) -> Tensor:
        """(E, choices, C) -> (E, choices); -inf for choices that an example does not have."""
        return self.score_each(last, batch)

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """The answer must be one of the choices."""
        choice_index(row["answer"], row["choices"])

    @classmethod
    def gold_answer(cls, row: Row) -> int:
        """The index of the right answer."""
        index = choice_index(row["answer"], row["choices"])
        assert index is not None
        return index

    @classmethod
    def format_row(cls, row: Row) -> str:
        """Context and choices, one below the other."""
        return "\n".join([row["context"], *(f"- {choice}" for choice in row["choices"])])

    def format_answer(
        self, prediction: Sequence[float], row: Row, example: Example
    ) -> tuple[str, float, tuple[float, ...]]:
        """The likeliest choice; a batch may have more columns than the row has choices."""
        probabilities = tuple(prediction[: len(row["choices"])])
        index = max(range(len(probabilities)), key=probabilities.__getitem__)
        return row["choices"][index], float(index), probabilities


def choice_index(answer: int | str | None, choices: Sequence[str]) -> int | None:
    """The index of the right answer, which is given as an index from 0, the text of a choice, or a
    letter (`B`); None where it is not known. Raises BadValue where it is none of the choices."""
    if answer is None:
        return None
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    letters = LETTERS[: len(choices)]
    if isinstance(answer, str) and len(answer) == 1 and answer.upper() in letters:
        return letters.index(answer.upper())
    if isinstance(answer, str) and not answer.strip().isdecimal():
        raise BadValue(f"has the answer {answer[:60]!r}, which is none of its choices")
    answer = int(answer)
    if not 0 <= answer < len(choices):
        raise BadValue(
            f"has the answer {answer}: from 0 to {len(choices) - 1}, or from A to {letters[-1:]}"
        )
    return answer


Task = Choice
