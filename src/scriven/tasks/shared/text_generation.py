"""Tasks whose answer is a text: the loss counts the tokens of the answers alone.

A decoder reads the question, then generates the answer after it in the same row; an encoder-decoder
reads the question as its source. An answer ends with a token that the model learns to generate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...data.batch import IGNORE_INDEX, Batch, collate_pairs
from ...models.base import Architecture
from ...nn.cache import Cache
from ...nn.copy_head import CopyHead
from ...tokenizers.base import Tokenizer
from ..base import UNLIMITED_CONTEXT, Criterion
from .columns import BadValue
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


class TextToText(TextGeneration):
    """One text becomes another: a delimiter stands between them in a decoder's row.

    An encoder-decoder may have a copy head, with which it copies tokens of its source
    (`task_config["copy_head"]`).
    """

    EXTRA_TOKENS = ("delimiter",)

    def __init__(
        self,
        backbone: Architecture,
        criterion: Criterion | None = None,
        special: Mapping[str, int] | None = None,
        task_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, criterion, special, task_config)
        copies = bool(self.task_config.get("copy_head")) and backbone.kind == "encoder-decoder"
        # the attribute's name is that of its weights on disk
        self.pointer = CopyHead(backbone.config.d_model) if copies else None

    def init_weights(self) -> None:
        """Draws fresh weights."""
        super().init_weights()
        if self.pointer is not None:
            self.pointer.init_weights()

    def predict(self, batch: Batch, state: Cache | None = None) -> Tensor:
        """(B, T, V) logits of a batch; with a copy head log-probabilities."""
        if self.pointer is None or state is not None:
            return super().predict(batch, state)
        assert batch.source is not None and batch.source_positions is not None
        encoder_decoder: Any = self.backbone
        encoded = encoder_decoder.encode(batch.source, batch.source_positions)  # (B, S, C)
        hidden = encoder_decoder(
            batch.tokens,
            None,
            batch.positions,
            source_positions=batch.source_positions,
            encoded=encoded,
        )  # (B, T, C)
        return self._copy_or_generate(hidden, encoded, batch.source, batch.source_positions)

    def next_logits(self, hidden: Tensor, state: Cache) -> Tensor:
        """As `predict`, while text is generated."""
        if self.pointer is None:
            return self.logits(hidden)
        assert state.source is not None and state.source_positions is not None
        assert state.source_ids is not None
        # without padding all sources share their positions: (S,) -> (B, S)
        positions = state.source_positions.expand(len(state.source), -1)
        return self._copy_or_generate(hidden, state.source, state.source_ids, positions)

    def _copy_or_generate(
        self, hidden: Tensor, encoded: Tensor, source: Tensor, positions: Tensor
    ) -> Tensor:
        assert self.pointer is not None
        embed: Any = self.backbone.embed
        # p(generate) weighs the vocabulary against attention over the source (See et al. 2017)
        vectors = embed.token(source) * embed.scale  # (B, S, C)
        log_probs: Tensor = self.pointer(
            hidden, self.logits(hidden), encoded, vectors, source, positions
        )
        return log_probs

    def encode_prompt(self, tokenizer: Tokenizer, text: str) -> Ids:
        """A source, encoded as in training."""
        return tokenizer.encode(with_leading_space(tokenizer, text))

    @property
    def separator(self) -> Ids:
        """The delimiter."""
        return [self.special["delimiter"]]

    def encode(self, tokenizer: Tokenizer, row: dict[str, str]) -> Example:
        """Source and target, which ends with EOS."""
        source = self.encode_prompt(tokenizer, row["source"])
        if not source:
            raise BadValue("has an empty source")
        if "target" not in row:
            return self.build_example(source, None)
        target = tokenizer.encode(with_leading_space(tokenizer, row["target"]))
        return self.build_example(source, [*target, self.special["eos"]])


def with_leading_space(tokenizer: Tokenizer, text: str) -> str:
    """A text that begins with a space, where words have other tokens with one before them: the
    first word of a title is then the same token as in the middle of the source."""
    needs_space = tokenizer.has_words and not text[:1].isspace()
    return f" {text}" if needs_space else text
