"""Translation, and any other rewriting of one text as another (Sutskever et al. 2014)."""

from typing import Any, ClassVar

from torch import Tensor

from ..data.batch import Batch
from ..models.base import Architecture
from ..nn.cache import Cache
from ..nn.copy_head import CopyHead
from ..tokenizers.base import Tokenizer
from .shared.columns import BadValue, Column, Row, text
from .shared.supervised import Example, Ids
from .shared.text_generation import TextGeneration


class Translate(TextGeneration):
    """source -> target; what is too long loses its end. A delimiter stands between them in a
    decoder's row.

    An encoder-decoder may have a copy head, with which it copies tokens of its source
    (`task_config["copy_head"]`).
    """

    EXTRA_TOKENS = ("delimiter",)
    COLUMNS: ClassVar = {
        "source": Column(("source", "src", "input"), text),
        "target": Column(("target", "tgt", "translation"), text, answer=True),
    }
    ANSWER_COLUMN = "target"

    def __init__(self, backbone: Architecture, *args: Any, **kwargs: Any) -> None:
        super().__init__(backbone, *args, **kwargs)
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

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
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


Task = Translate
