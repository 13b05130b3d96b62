"""Tasks whose answer is a text: the loss is that of the answers' tokens alone.

A decoder reads the question, then writes the answer after it in the same row; an encoder-decoder
reads the question as its source. An answer ends with a token that the model learns to write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...data.batch import IGNORE_INDEX, Batch
from ...data.collate import collate_pairs
from ...models.base import Architecture
from ...nn.cache import Cache
from ...nn.copy_head import CopyHead
from ...tokenizers.base import Tokenizer
from ..base import LONGEST, Criterion
from .columns import BadValue
from .supervised import Example, Ids, SupervisedTask, check_context, count_tokens, pad_rows


class TextGeneration(SupervisedTask):
    """Texts that answer texts. A task file adds columns and how a question is put."""

    BACKBONES: ClassVar = ("decoder", "encoder-decoder")
    ANSWER_TYPE = "texts"
    loss_unit = "answer token"
    echo_prompt = False

    @property
    def whole(self) -> int:
        """Tokens of a question and its answer together, or of each in an encoder-decoder."""
        return self.backbone.max_position or LONGEST

    @property
    def border(self) -> Ids:
        """What stands between question and answer in a decoder's row."""
        return []

    @property
    def question_room(self) -> int:
        """The most tokens of a question: a decoder keeps a quarter of its context to answer."""
        check_context(self.whole, 8, "with written answers")
        if self.backbone.kind == "encoder-decoder":
            return self.whole
        return self.whole - self.whole // 4 - len(self.border)

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of an answer."""
        return self.whole if self.backbone.kind == "encoder-decoder" else self.whole // 4

    def truncate_prompt(self, prompt: Ids) -> Ids:
        """As much of a question as fits: its beginning."""
        return prompt[: self.question_room]

    def build_inputs(self, window: Ids, written: int) -> tuple[Ids | None, Ids]:
        """The prompt is the question, everything written is the answer."""
        place = len(window) - written
        if self.backbone.kind == "encoder-decoder":
            return window[:place], [self.special["pad"], *window[place:]]
        return None, [*window[:place], *self.border, *window[place:]]

    def prompt_of(self, example: Example) -> Ids:
        """The question, as the engine is given it."""
        if example.source is not None:
            return example.source
        return example.rows[0][: len(example.rows[0]) - len(self.border)]

    def pair(self, question: Ids, answer: Ids | None) -> Example:
        """A question, and its answer with what ends it; without an answer only the question."""
        asked = self.truncate_prompt(question)
        told = (answer or [])[: self.max_new_tokens]
        cut = max(0, len(question) - len(asked)) + len(answer or []) - len(told)
        if self.backbone.kind == "decoder":
            row = [*asked, *self.border, *told]
            before = len(row) - len(told)
            targets = [*[IGNORE_INDEX] * (before - 1), *told, IGNORE_INDEX]
            return Example((row,), (targets,), cut=cut)
        return Example((told,), (told,), source=asked, cut=cut)

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """Rows padded on the right; a decoder reads no token that has nothing to predict after."""
        pad, read = self.special["pad"], count_tokens(examples)
        if self.backbone.kind == "encoder-decoder":
            sources = [np.array(example.source, dtype=np.int64) for example in examples]
            answers = [np.array(example.rows[0], dtype=np.int64) for example in examples]
            made = collate_pairs(sources, answers, pad=pad, device=device)
            return replace(made, text_tokens=read)
        tokens = pad_rows([example.rows[0] for example in examples], pad)
        targets = pad_rows([(example.targets or ((),))[0] for example in examples], IGNORE_INDEX)
        return Batch(tokens, targets, text_tokens=read).to(device)


class TextToText(TextGeneration):
    """One text becomes another: a delimiter stands between them in a decoder's row.

    An encoder-decoder may copy tokens of its source (`facts["copy_head"]`).
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
        self.pointer = CopyHead(backbone.config.d_model) if copies else None

    def init_weights(self) -> None:
        """Fresh weights."""
        super().init_weights()
        if self.pointer is not None:
            self.pointer.init_weights()

    def predict(self, batch: Batch, state: Cache | None = None) -> Tensor:
        """(B, T, V) logits of a batch, or logarithms of probabilities where tokens are copied."""
        if self.pointer is None or state is not None:
            return super().predict(batch, state)
        assert batch.source is not None and batch.source_positions is not None
        reading: Any = self.backbone
        encoded = reading.encode(batch.source, batch.source_positions)
        hidden = reading(
            batch.tokens,
            None,
            batch.positions,
            source_positions=batch.source_positions,
            encoded=encoded,
        )
        return self._mixed(hidden, encoded, batch.source, batch.source_positions)

    def next_logits(self, hidden: Tensor, state: Cache) -> Tensor:
        """As `predict`, of what is being written."""
        if self.pointer is None:
            return self.logits(hidden)
        assert state.source is not None and state.source_positions is not None
        assert state.source_ids is not None
        positions = state.source_positions.expand(len(state.source), -1)
        return self._mixed(hidden, state.source, state.source_ids, positions)

    def _mixed(self, hidden: Tensor, encoded: Tensor, source: Tensor, positions: Tensor) -> Tensor:
        assert self.pointer is not None
        embed: Any = self.backbone.embed
        vectors = embed.token(source) * embed.scale
        found: Tensor = self.pointer(
            hidden, self.logits(hidden), encoded, vectors, source, positions
        )
        return found

    def encode_prompt(self, tokenizer: Tokenizer, text: str) -> Ids:
        """A source as it was read in training."""
        return tokenizer.encode(with_leading_space(tokenizer, text))

    @property
    def border(self) -> Ids:
        """The delimiter."""
        return [self.special["delimiter"]]

    def encode(self, tokenizer: Tokenizer, row: dict[str, str]) -> Example:
        """Source and target, which ends with EOS."""
        source, target = self.encode_prompt(tokenizer, row["source"]), row.get("target")
        if not source:
            raise BadValue("has an empty source")
        answer = (
            None
            if target is None
            else [
                *tokenizer.encode(with_leading_space(tokenizer, target)),
                self.special["eos"],
            ]
        )
        return self.pair(source, answer)


def with_leading_space(tokenizer: Tokenizer, text: str) -> str:
    """A text that begins with a space, where words have other tokens with one before them: the
    first word of a title is then the same token as in the middle of the source."""
    bare = tokenizer.has_words and not text[:1].isspace()
    return f" {text}" if bare else text
