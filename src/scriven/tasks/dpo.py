"""Preferences: of two answers to the same prompt, learn to write such as the preferred one.

Direct Preference Optimization (Rafailov et al. 2023, equation 7): with log p the log-probability of
an answer, a sum over its tokens, and a frozen copy of the model before training as the reference,

    reward(answer) = beta (log p(answer | prompt) - log p_reference(answer | prompt))
    loss = -log sigmoid(reward(chosen) - reward(rejected))

The reference reads every pair once, before the first step; a batch brings its log-probabilities
along as labels. `--finetune.label_smoothing` is the probability that a pair is the wrong way round
(conservative DPO: Mitchell 2023).

A prompt is a text or a list of messages, an answer a text, a message in a list, or a whole
conversation with the prompt in it. Transcripts of `Human:` and `Assistant:` are conversations too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..data.batch import IGNORE_INDEX, Batch
from ..nn.cache import Cache
from ..nn.cross_entropy import LOGITS
from ..tokenizers.base import Tokenizer
from ..tokenizers.chat_template import Rendered, render_ids
from .base import Output
from .chat import Chat, drop_oldest_until_fit, read_messages
from .shared.columns import BadValue, Column, NothingToLearn, Row, parse_json_list, text
from .shared.supervised import Example, Ids

BETA = 0.1
"""Default strength of the pull towards the reference model (Rafailov et al. 2023, section 6)."""

REFERENCE = "reference"
"""Key of a row's log-probabilities under the reference model: of the chosen and of the rejected
answer."""

_TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")

Messages = list[dict[str, Any]]


def _conversation(value: Any) -> Messages | None:
    """The messages of a list or of a transcript; None for a plain text."""
    value = parse_json_list(value)
    if isinstance(value, str) and _TRANSCRIPT.match(f"\n\n{value.lstrip()}"):
        # "\n\nHuman: Hello\n\nAssistant: Hi" -> ["", "Human", " Hello", "Assistant", " Hi"]
        parts = _TRANSCRIPT.split(f"\n\n{value.strip()}")
        roles = {"Human": "user", "Assistant": "assistant"}
        turns = zip(parts[1::2], parts[2::2], strict=True)
        value = [{"role": roles[who], "content": said.strip()} for who, said in turns]
    return value if isinstance(value, list) else None


def _prompt(value: Any) -> Messages:
    """The messages before an answer: those of the prompt, or of a conversation without its end."""
    messages = _conversation(value)
    if messages is None:
        return [{"role": "user", "content": text(value)}]
    messages = read_messages(messages)
    if messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages or messages[-1]["role"] != "user":
        raise BadValue("has no message of the user to answer")
    return messages


def _answer(value: Any) -> Messages:
    """An answer as one message of the assistant, after its prompt where it has one."""
    messages = _conversation(value)
    if messages is None:
        return [{"role": "assistant", "content": text(value)}]
    alone = len(messages) == 1
    # an answer alone is checked behind a question, as a conversation begins with the user
    before = [{"role": "user", "content": "?"}] if alone else []
    messages = read_messages([*before, *messages])
    if messages[-1]["role"] != "assistant":
        raise BadValue("does not end with an answer of the assistant")
    return messages[len(before) :]


class Dpo(Chat):
    """prompt, chosen, rejected -> the chosen answer is preferred."""

    COLUMNS: ClassVar = {
        # a conversation in `chosen` has the prompt in it
        "prompt": Column(("prompt", "question", "instruction", "chosen"), _prompt),
        "chosen": Column(("chosen",), _answer, answer=True),
        "rejected": Column(("rejected",), _answer, answer=True),
    }
    ANSWER_TYPE = "preferences"
    ANSWER_COLUMN = "chosen"
    loss_unit = "preference"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.beta = float(self.task_config.get("dpo_beta") or BETA)

    # ------------------------------------------------------------------ rows

    @classmethod
    def check_fields(cls, fields: Row) -> None:
        """Every row counts."""

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """Two different answers to one prompt."""
        chosen, rejected = row["chosen"], row["rejected"]
        if chosen[-1]["content"] == rejected[-1]["content"]:
            raise NothingToLearn("chosen and rejected are the same")
        if row["prompt"][-1]["content"] == chosen[-1]["content"]:
            raise BadValue("has no prompt: give a column prompt, or conversations with a question")
        if len(chosen) > 1 and len(rejected) > 1 and chosen[:-1] != rejected[:-1]:
            raise BadValue("has two conversations that differ before their last answers")

    @classmethod
    def without_answer(cls, row: Row) -> Row:
        """The prompt alone."""
        return {"prompt": row["prompt"]}

    @classmethod
    def shown(cls, row: Row) -> Row:
        """Both answers, of which the model prefers one."""
        return row

    @classmethod
    def gold_answer(cls, row: Row) -> Any:
        """The index of the chosen answer."""
        return 0

    @classmethod
    def format_row(cls, row: Row) -> str:
        """The last question."""
        return str(row["prompt"][-1]["content"])

    # ------------------------------------------------------------------ inputs

    def conversation(self, row: Row) -> Messages:
        """The messages before the answer."""
        chosen: Messages = row.get("chosen", ())
        return chosen[:-1] if len(chosen) > 1 else row["prompt"]

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Two rows, the prompt with either answer; of a prompt to be answered one row without."""
        # 1. the answers, and the room that they leave; a prompt has at least `max_question`
        sides = [row[side][-1]["content"] for side in ("chosen", "rejected") if side in row]
        answers = [[*tokenizer.encode(content), self.special["end"]] for content in sides]
        room = self.max_question
        if answers and self.backbone.kind == "decoder":
            room = max(room, self.max_length - max(map(len, answers)))
        # 2. the prompt, from which the oldest messages are dropped, and then its beginning
        rendered, cut = drop_oldest_until_fit(
            self.conversation(row),
            room,
            lambda part: Rendered(render_ids(tokenizer, part, answer=True), []),
        )
        if not answers:
            example = self.build_example(rendered.ids, None)
            return replace(example, cut=example.cut + cut)
        # 3. both answers follow the same prompt
        prompt = rendered.ids[-room:]
        pair = [self._build_row(prompt, answer) for answer in answers]
        reference = row.get(REFERENCE)
        return Example(
            tuple(each.rows[0] for each in pair),
            tuple((each.targets or ())[0] for each in pair),
            source=pair[0].source,
            label=None if reference is None else tuple(reference),
            cut=cut + len(rendered.ids) - len(prompt) + max(each.cut for each in pair),
        )

    def _build_row(self, prompt: Ids, answer: Ids) -> Example:
        """A prompt with an answer, which may use all the room that the prompt leaves."""
        if self.backbone.kind == "encoder-decoder":
            kept = answer[: self.max_length]
            example = Example((kept,), (kept,), source=prompt)
        else:
            kept = answer[: self.max_length - len(prompt)]
            ignored = [IGNORE_INDEX] * (len(prompt) - 1)
            # position i predicts token i + 1
            example = Example(([*prompt, *kept],), ([*ignored, *kept, IGNORE_INDEX],))
        return replace(example, cut=len(answer) - len(kept))

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """(2 E, T) rows: chosen, rejected, chosen ...; labels (E, 2) are the log-probabilities
        under the reference model, 0 where they are not known."""
        if len(examples[0].rows) == 1:
            return super().collate(examples, device)
        sides = [
            Example((ids,), (targets,), source=example.source)
            for example in examples
            for ids, targets in zip(example.rows, example.targets or (), strict=True)
        ]
        labels = torch.tensor([example.label or (0.0, 0.0) for example in examples])
        return replace(super().collate(sides, device), labels=labels.to(device))

    # ------------------------------------------------------------------ answers

    def answer_log_probs(self, batch: Batch) -> Tensor:
        """(B, T) -> (E, 2) log-probabilities of the answers, float32 or better."""
        is_answer = batch.targets != IGNORE_INDEX  # (B, T)
        rows = is_answer.nonzero()[:, 0]  # (N,) the row of each token of an answer
        hidden, targets = self.hidden(batch)[is_answer], batch.targets[is_answer]  # (N, C), (N,)
        # few logits at a time: those of a long answer in a large vocabulary fill the memory
        size = max(16, LOGITS // self.vocab_size)
        nll = torch.cat(
            [
                checkpoint(self._nll, hidden[start:][:size], targets[start:][:size],
                           use_reentrant=False)
                for start in range(0, max(1, len(hidden)), size)
            ]
        )  # fmt: skip
        sums = nll.new_zeros(len(batch.tokens)).index_add(0, rows, nll)  # (B,)
        return -sums.view(-1, 2)

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(N, C), (N,) -> (N,)"""
        return F.cross_entropy(self.logits(hidden), targets, reduction="none")

    def rewards(self, log_probs: Tensor, batch: Batch) -> Tensor:
        """(E, 2) implicit rewards of the chosen and of the rejected answers."""
        assert batch.labels is not None
        return self.beta * (log_probs - batch.labels.to(log_probs.dtype))

    def forward(self, batch: Batch, state: Cache | None = None) -> Output:
        """The loss of a batch, summed over its pairs; correct are those of a higher reward of the
        chosen answer."""
        rewards = self.rewards(self.answer_log_probs(batch), batch)
        margin = rewards[:, 0] - rewards[:, 1]  # (E,)
        flipped = self.label_smoothing if self.training else 0.0
        loss = -(1 - flipped) * F.logsigmoid(margin) - flipped * F.logsigmoid(-margin)
        count = torch.tensor(len(margin), device=margin.device)
        return Output(self.add_aux_loss(loss.sum(), count), count, (margin.detach() > 0).sum())

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, 4): rewards of the chosen and of the rejected answer, and their log-probabilities."""
        log_probs = self.answer_log_probs(batch)
        return torch.cat([self.rewards(log_probs, batch), log_probs], 1)

    def format_answer(
        self, prediction: Sequence[float], row: Mapping[str, Any], example: Example
    ) -> tuple[str, Any, tuple[float, ...]]:
        """The answer of the higher reward, its index, and the four numbers of `predictions`."""
        index = int(prediction[0] <= prediction[1])
        return row[("chosen", "rejected")[index]][-1]["content"], float(index), tuple(prediction)


Task = Dpo
