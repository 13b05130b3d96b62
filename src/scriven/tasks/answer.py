"""Extractive question answering: the answer is a span of the context, or there is none (SQuAD 1.1
and 2.0: Rajpurkar et al. 2016 and 2018).

`shared/words.py` says what a model reads: the question, then the context, in windows that overlap
by half where it is long. Each word has a score as the first and as the last of the answer (Devlin
et al. 2018, section 4.2), each a softmax over the words of all windows, so that windows can be
compared (Clark & Gardner 2018, section 3.2, shared normalization). In a table with unanswerable
questions the extract token of each window stands for no answer.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.batch import IGNORE_INDEX, Batch
from ..nn.span_head import SpanHead
from ..tokenizers.base import Tokenizer
from .shared.columns import BadValue, Column, Row, parse_json, text
from .shared.supervised import Example
from .shared.words import WordScoring, word_spans

BEGINS, ENDS = 1, 2
"""Bits of a target: whether the answer begins or ends with this word."""
MAX_WORDS = 30  # the longest answer that is predicted, in words


def _answers(value: Any) -> list[dict[str, Any]]:
    """The right answers, each `text` and `start`, its first character or None; empty where the
    question has none. A text, a list of texts or of objects, or the hub's object of two lists."""
    value = parse_json(value)
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        starts = value.get("answer_start") or [None] * len(value["text"])
        if len(starts) != len(value["text"]):
            raise BadValue("has another number of answer_start than of text")
        value = [
            {"text": each, "answer_start": start}
            for each, start in zip(value["text"], starts, strict=True)
        ]
    if value is None or value == "":
        return []
    found = []
    for each in value if isinstance(value, list) else [value]:
        each = {"text": each} if isinstance(each, str) else each
        if not isinstance(each, dict):
            raise BadValue("holds no answers: give texts, or objects with text and answer_start")
        start = each.get("answer_start")
        start = start if isinstance(start, int) and start >= 0 else None
        found.append({"text": text(each.get("text")), "start": start})
    return found


class Answer(WordScoring):
    """context, question -> answers."""

    COLUMNS: ClassVar = {
        "context": Column(("context", "passage"), text, also=("paragraph", "document", "text")),
        "question": Column(("question",), text, also=("query",)),
        "answers": Column(("answers",), _answers, answer=True, also=("answer",)),
    }
    ANSWER_TYPE = "spans"
    ANSWER_COLUMN = "answers"
    loss_unit = "question"
    selection_metric = "accuracy"
    OVERLAP = 0.5

    def make_head(self) -> nn.Module:
        """Scores of the first and of the last word of the answer."""
        return SpanHead(self.backbone.config.d_model)

    def head_scores(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, C) -> (B, T, 2)"""
        tokens = batch.tokens
        # the question stands between the start token and the first delimiter
        question = (tokens == self.special["delimiter"]).cumsum(1) == 0
        question &= tokens != self.special["start"]
        scores: Tensor = self.head(hidden, tokens, question, tokens != self.special["pad"])
        return scores

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """Whether some questions have no answer."""
        return {"unanswerable": any(not row["answers"] for row in rows)}

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """Each answer must be a part of the context."""
        for answer in row["answers"]:
            _place(row["context"], answer)

    @classmethod
    def group_key(cls, row: Row) -> Row:
        """The context: its other questions tell much of its answers."""
        return {"context": row["context"]}

    @classmethod
    def gold_answer(cls, row: Row) -> list[str]:
        """The texts of the right answers."""
        return [answer["text"] for answer in row["answers"]]

    @classmethod
    def format_row(cls, row: Row) -> str:
        """The context and the question."""
        return f"{row['context']}\n{row['question']}"

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, question, delimiter, context, extract; the first of several answers is learned."""
        context, targets = row["context"], []
        spans = word_spans(context) or [(0, len(context))]
        can_be_none = self.task_config.get("unanswerable")
        at_end = 0 if can_be_none else IGNORE_INDEX
        first = last = -1
        if answers := row.get("answers"):
            start = _place(context, answers[0])
            end = start + len(answers[0]["text"])
            inside = [n for n, span in enumerate(spans) if span[0] < end and span[1] > start]
            first, last = (inside[0], inside[-1]) if inside else (-1, -1)
        elif answers is not None and can_be_none:
            at_end = BEGINS | ENDS
        for number in range(len(spans)):
            targets.append(BEGINS * (number == first) | ENDS * (number == last))
        words = [context[start:end] for start, end in spans]
        question = [row["question"][start:end] for start, end in word_spans(row["question"])]
        return self.encode_words(tokenizer, words, targets, question, at_end)

    def _log_probs(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(E, W, 2) log-probabilities that the answer begins, and that it ends, with each word."""
        is_word = targets != IGNORE_INDEX  # (E, W)
        scores = logits.masked_fill(~is_word[..., None], -torch.inf)
        return scores.log_softmax(1)

    def word_loss(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of both ends, each wherever a window holds it; right are
        examples with both ends right."""
        known = targets.clamp(min=0)
        # an answer may reach over the end of the last window that holds its beginning
        sides = torch.stack([(known & BEGINS) > 0, (known & ENDS) > 0], -1)  # (E, W, 2)
        taught = sides.any(1).all(-1)  # (E,) examples with an answer
        if not taught.any():
            return logits.sum() * 0.0, logits.new_zeros(())
        log_probs = self._log_probs(logits[taught], targets[taught])
        sides = sides[taught]
        loss = -log_probs.masked_fill(~sides, -torch.inf).logsumexp(1).sum()
        best = log_probs.detach().argmax(1, keepdim=True)  # (E, 1, 2)
        return loss, sides.gather(1, best).all(-1).sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, 5): the probability of the best span, its window, the numbers in the window of its
        first and last word, and the probability that there is no answer."""
        logits = self.word_logits(batch)  # (E, R, T, 2)
        examples, rows, length = logits.shape[:3]
        targets = batch.targets.view(examples, rows * length)
        log_probs = self._log_probs(logits.flatten(1, 2), targets)
        # 1. the extract token, the last of each window, stands for no answer
        is_word = targets.view(examples, rows, length) != IGNORE_INDEX
        is_end = batch.tokens.view_as(is_word) == self.special["extract"]
        none = log_probs.view_as(logits).masked_fill(~(is_word & is_end)[..., None], -torch.inf)
        no_answer = none.sum(-1).flatten(1).logsumexp(1).exp()  # (E,)
        # 2. every pair of a first and a last word of a window, not too far apart
        is_word = is_word & ~is_end
        found = log_probs.view_as(logits).masked_fill(~is_word[..., None], -torch.inf)
        number = is_word.long().cumsum(-1) - 1  # (E, R, T) of each word in its window
        best = torch.full((examples,), -torch.inf, device=logits.device)
        place = torch.zeros(examples, 3, device=logits.device)
        for row in range(rows):
            pairs = found[:, row, :, None, 0] + found[:, row, None, :, 1]  # (E, T, T)
            apart = number[:, row, None, :] - number[:, row, :, None]
            pairs = pairs.masked_fill((apart < 0) | (apart >= MAX_WORDS), -torch.inf)
            score, index = pairs.flatten(1).max(1)  # (E,)
            first = number[:, row].gather(1, (index // length)[:, None])
            last = number[:, row].gather(1, (index % length)[:, None])
            here = torch.cat([torch.full_like(first, row), first, last], 1).to(place.dtype)
            place = torch.where((score > best)[:, None], here, place)
            best = torch.maximum(score, best)
        return torch.cat([best.exp()[:, None], place, no_answer[:, None]], 1)

    def format_answer(
        self, prediction: Sequence[float], row: Row, example: Example
    ) -> tuple[str, str, tuple[float, ...]]:
        """The span as it stands in the context, or an empty text for no answer."""
        probability, window, first, last, no_answer = prediction
        if no_answer > probability:
            return "", "", (no_answer,)
        spans = word_spans(row["context"]) or [(0, len(row["context"]))]
        before = example.firsts[int(window)]
        start, end = spans[before + int(first)][0], spans[before + int(last)][1]
        answer = row["context"][start:end]
        return answer, answer, (probability,)


def _place(context: str, answer: dict[str, Any]) -> int:
    """The first character of an answer; its first occurrence where it is not said, or wrong."""
    start, said = answer["start"], answer["text"]
    if start is not None and context[start : start + len(said)] == said:
        return int(start)
    found = context.find(said)
    if found < 0:
        raise BadValue(
            f"has the answer {said[:60]!r}, which is no part of its context; answers in other "
            "words are for --task instruct"
        )
    return found


Task = Answer
