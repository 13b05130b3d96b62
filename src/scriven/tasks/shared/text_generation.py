"""Tasks whose answer is a text: the loss counts the tokens of the answers alone.

A decoder reads the question, then generates the answer after it in the same row; an encoder-decoder
reads the question as its source. An answer ends with a token that the model learns to generate.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from ...data.batch import IGNORE_INDEX, Batch, collate_pairs
from ..base import UNLIMITED_CONTEXT
from .supervised import Example, Ids, SupervisedTask, check_context, count_tokens, pad_rows


class TextGeneration(SupervisedTask):
    """Texts that answer texts. A task file adds columns and how a question is encoded."""

    BACKBONES: ClassVar = ("decoder", "encoder-decoder")
    ANSWER_TYPE = "texts"
    loss_unit = "answer token"
    echo_prompt = False

    @property
    def max_length(self) -> int:
        """Most tokens of a question and its answer together, or of each in an encoder-decoder."""
        return self.backbone.max_position or UNLIMITED_CONTEXT

    @property
    def separator(self) -> Ids:
        """The tokens between question and answer in a decoder's row."""
        return []

    @property
    def max_question(self) -> int:
        """The most tokens of a question: a decoder keeps a quarter of its context to answer."""
        check_context(self.max_length, 8, "with generated answers")
        if self.backbone.kind == "encoder-decoder":
            return self.max_length
        return self.max_length - self.max_length // 4 - len(self.separator)

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of an answer."""
        is_decoder = self.backbone.kind != "encoder-decoder"
        return self.max_length // 4 if is_decoder else self.max_length

    def truncate_prompt(self, prompt: Ids) -> Ids:
        """As much of a question as fits: its beginning."""
        return prompt[: self.max_question]

    def build_inputs(self, window: Ids, num_generated: int) -> tuple[Ids | None, Ids]:
        """The prompt is the question, generated tokens are the answer."""
        prompt_length = len(window) - num_generated
        question, answer = window[:prompt_length], window[prompt_length:]
        if self.backbone.kind == "encoder-decoder":
            return question, [self.special["pad"], *answer]
        return None, [*question, *self.separator, *answer]

    def prompt_of(self, example: Example) -> Ids:
        """The question of an example, as the engine's prompt."""
        if example.source is not None:
            return example.source
        return example.rows[0][: len(example.rows[0]) - len(self.separator)]

    def build_example(self, question: Ids, answer: Ids | None) -> Example:
        """A question and its answer, which includes what ends it; no answer in prediction."""
        prompt = self.truncate_prompt(question)
        # an answer that is too long loses its end, with the token that would end it
        target = (answer or [])[: self.max_new_tokens]
        cut = len(question) - len(prompt) + len(answer or []) - len(target)
        if self.backbone.kind == "encoder-decoder":
            return Example((target,), (target,), source=prompt, cut=cut)
        row = [*prompt, *self.separator, *target]
        # position i predicts token i + 1, so the last position before the answer counts
        ignored = [IGNORE_INDEX] * (len(row) - len(target) - 1)
        return Example((row,), ([*ignored, *target, IGNORE_INDEX],), cut=cut)

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """(B, T) rows padded on the right."""
        pad, num_tokens = self.special["pad"], count_tokens(examples)
        if self.backbone.kind == "encoder-decoder":
            sources = [np.array(example.source, dtype=np.int64) for example in examples]
            answers = [np.array(example.rows[0], dtype=np.int64) for example in examples]
            batch = collate_pairs(sources, answers, pad=pad, device=device)
            return replace(batch, text_tokens=num_tokens)
        tokens = pad_rows([example.rows[0] for example in examples], pad)
        targets = pad_rows([(example.targets or ((),))[0] for example in examples], IGNORE_INDEX)
        return Batch(tokens, targets, text_tokens=num_tokens).to(device)
