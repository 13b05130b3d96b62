"""Multiple choice, which is also how questions with given answers are asked: the context with each
answer is a row, and the rows' numbers go through a softmax (GPT-1 paper, section 3.3).

Where a table has a question beside its context, the question stands after it. The choices are a
list in one column, or stand in columns of their own; the answer is a place from 0, a letter or a
text. Only the row with the right answer teaches how the text goes on. A context that is too long
loses its beginning, an answer its end.

With `--finetune.lm_score_weight` a decoder starts from what it knows: the score of an answer is
that of the linear layer plus how much likelier the context makes the answer, in nats times that
weight (pointwise mutual information: Holtzman et al. 2021, section 3). As the layer starts at zero,
an untrained choice is the one that scoring without any training makes.
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
from .shared.supervised import ROUND, Example

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _answer(value: Any) -> int | str:
    """The place of the right answer, from 0, or its text."""
    return value if isinstance(value, int) and not isinstance(value, bool) else text(value)


@dataclass(frozen=True)
class Span:
    """The tokens of each row's answer: those after `start` and before `end`."""

    start: Tensor
    """(B,) places of the delimiter."""
    end: Tensor
    """(B,) places of the extract token; before `start` where a row has no answer."""

    def places(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) the place before each token of the answers in rows (B, T); (B, N) which count.

        N is rounded up, as the widths of rows are.
        """
        longest = int((self.end - self.start).max()) - 1
        d_model = max(1, min(-(-longest // ROUND) * ROUND, tokens.size(1) - 2))
        at = self.start[:, None] + torch.arange(d_model, device=tokens.device)
        return at.clamp(max=tokens.size(1) - 2), at + 1 < self.end[:, None]

    def alone(self, tokens: Tensor, first: int) -> tuple[Tensor, "Span"]:
        """(B, N + 2) the token `first`, the delimiter and the answer, as if nothing stood before
        them; and where the answers are there."""
        at, _ = self.places(tokens)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        begun = torch.full_like(at[:, :1], first)
        marked = tokens[rows, at[:, :1]]
        start = torch.ones_like(self.start)
        return torch.cat([begun, marked, tokens[rows, at + 1]], 1), Span(
            start, start + self.end - self.start
        )


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
        """Start, context, delimiter, answer, extract; for each answer."""
        room, context = self.room(2), tokenizer.encode(row["context"])
        rows, lost = [], 0
        for choice in row["choices"]:
            ids = tokenizer.encode(choice)
            kept = ids[: max(room // 2, room - len(context))]
            before = context[max(0, len(context) - (room - len(kept))) :]
            lost = max(lost, len(ids) - len(kept) + len(context) - len(before))
            rows.append(self.framed([before, kept])[0])
        return Example(tuple(rows), label=choice_index(row.get("answer"), row["choices"]), cut=lost)

    def teaching(self, examples: Sequence[Example], each: int) -> Tensor:
        """The rows with the right answers."""
        return torch.tensor(
            [number == example.label for example in examples for number in range(each)]
        )

    def scores(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, W) -> (E, choices)"""
        found = super().scores(hidden, batch)
        if not self.lm_score_weight:
            return found
        assert batch.pool_index is not None
        mark = (batch.tokens == self.special["delimiter"]).int().argmax(1)
        answer = Span(mark, batch.pool_index)
        alone, there = answer.alone(batch.tokens, self.special["start"])
        gained = self._nats(hidden, batch.tokens, answer)
        gained = gained - self._nats(self.backbone(alone), alone, there)
        return found + self.lm_score_weight * gained.view_as(found).to(found.dtype)

    def _nats(self, hidden: Tensor, tokens: Tensor, answer: Span) -> Tensor:
        """(B,) the logarithm of the probability of each row's answer."""
        at, counted = answer.places(tokens)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        logits = self.of_words(hidden[rows, at])
        losses = F.cross_entropy(logits.mT, tokens[rows, at + 1], reduction="none")
        found: Tensor = -(losses * counted).sum(1)
        return found

    def gather(self, last: Tensor, batch: Batch) -> Tensor:
        """A number for each answer; never one that an example does not have."""
        assert batch.pool_index is not None
        found = self.head(last).squeeze(-1)
        return found.masked_fill(batch.pool_index.view_as(found) < 0, -torch.inf)  # type: ignore[no-any-return]

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """The answer must be one of the choices."""
        choice_index(row["answer"], row["choices"])

    @classmethod
    def gold_answer(cls, row: Row) -> int:
        """The place of the right answer."""
        found = choice_index(row["answer"], row["choices"])
        assert found is not None
        return found

    @classmethod
    def format_row(cls, row: Row) -> str:
        """Context and choices, one below the other."""
        return "\n".join([row["context"], *(f"- {choice}" for choice in row["choices"])])

    def format_answer(
        self, said: Sequence[float], row: Row
    ) -> tuple[str, float, tuple[float, ...]]:
        """The likeliest choice; of what `answers` says, only as much as the row has choices."""
        chances = tuple(said[: len(row["choices"])])
        place = max(range(len(chances)), key=chances.__getitem__)
        return row["choices"][place], float(place), chances


def choice_index(answer: int | str | None, choices: Sequence[str]) -> int | None:
    """The place of the right answer among the choices; None where it is not known.

    Args:
        answer: a place from 0, the text of a choice, or a letter (`B`).

    Raises:
        BadValue: it is none of them.
    """
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
