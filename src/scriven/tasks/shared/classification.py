"""Tasks whose answer is a label or a number: a linear layer on the last position.

GPT-1 paper, sections 3.2 and 3.3: an input is start token, text, extract token, with a delimiter
between its parts; what the model makes of the extract token goes through a linear layer; learning
the text itself goes on beside it, as an auxiliary loss. The loss of that is a mean over the tokens
of each example, and examples count equally, so a batch can be cut anywhere between them.

An encoder reads the same input in both directions and learns no text beside it. An
encoder-decoder reads it as the source, and its decoder the extract token alone.

Few rows are learned by heart word by word; `token_dropout` hides another share of the tokens each
time (word dropout: Iyyer et al. 2015, section 3.2).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.batch import IGNORE_INDEX, Batch
from ...errors import InputError
from ...models.base import Architecture
from ...nn.cache import Cache
from ...nn.dropout import dropout
from ...nn.init import zeros
from ...tokenizers.base import Tokenizer
from ..base import LONGEST, Criterion, Output
from .columns import BadValue, Row
from .supervised import (
    Example,
    Ids,
    SupervisedTask,
    check_context,
    count_tokens,
    pad_rows,
    padded_positions,
    truncate_longest_first,
)

LM_LOSS_WEIGHT = 0.5
"""Weight of the auxiliary loss (GPT-1 paper, section 4.1)."""
MOST = 10_000
"""Labels; a column with more is no column of labels."""


class SequenceClassification(SupervisedTask):
    """A head on the last position. A task file adds columns, encoding and loss."""

    EXTRA_TOKENS = ("start", "delimiter", "extract")
    loss_unit = "label"
    selection_metric = "accuracy"
    is_generative = False
    echo_prompt = False

    def __init__(
        self,
        backbone: Architecture,
        criterion: Criterion | None = None,
        special: Mapping[str, int] | None = None,
        task_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, criterion, special, task_config)
        learns_text = backbone.kind == "decoder"
        self.lm_loss_weight = (
            float(self.task_config.get("lm_loss_weight", LM_LOSS_WEIGHT)) if learns_text else 0.0
        )
        config: Any = backbone.config
        self.lm_score_weight = (
            float(self.task_config.get("lm_score_weight") or 0.0) if learns_text else 0.0
        )
        untied = self.lm_loss_weight + self.lm_score_weight > 0 and not config.tie_embeddings
        self.words = nn.Linear(config.d_model, self.vocab_size, bias=False) if untied else None
        """What scores tokens as text, where the embedding's vectors do not."""
        self.token_dropout = float(self.task_config.get("token_dropout") or 0.0)

    @property
    def outputs(self) -> int:
        """Numbers the linear layer gives for each example, or for each of its rows."""
        return 1

    def make_head(self) -> nn.Module:
        """The linear layer."""
        return nn.Linear(self.backbone.config.d_model, self.outputs, bias=False)

    def init_weights(self) -> None:
        """Fresh weights: every answer is equally likely at first."""
        backbone: Any = self.backbone
        backbone.init_weights()
        zeros(self.head.weight)
        if self.words is not None:
            zeros(self.words.weight)

    # ------------------------------------------------------------------ inputs

    def inputs(self, tokenizer: Tokenizer, *parts: str) -> tuple[Ids, int]:
        """Start, the parts with delimiters between them, extract; and how many tokens were lost.

        Of what is longer than the context, the longest part loses its end first.
        """
        return self.framed([tokenizer.encode(part) for part in parts])

    def framed(self, parts: Sequence[Ids]) -> tuple[Ids, int]:
        """As `inputs`, of parts in ids."""
        kept, lost = truncate_longest_first(parts, self.room(len(parts)))
        ids = [self.special["start"]]
        for number, part in enumerate(kept):
            ids += [self.special["delimiter"]] * (number > 0) + part
        return [*ids, self.special["extract"]], lost

    def room(self, parts: int) -> int:
        """Tokens that fit beside the special ones."""
        reach = self.backbone.max_position or LONGEST
        check_context(reach, 8, "with labels")
        return reach - parts - 1

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """Rows padded on the right; an example with fewer rows than another gets empty ones."""
        each = max(len(example.rows) for example in examples)
        rows: list[Ids] = []
        for example in examples:
            rows += [*example.rows, *[[]] * (each - len(example.rows))]
        ends = torch.tensor([len(row) - 1 for row in rows])
        pad = self.special["pad"]
        known = [example.label for example in examples if example.label is not None]
        labels = torch.tensor(known) if len(known) == len(examples) else torch.zeros(len(examples))
        tokens, read = pad_rows(rows, pad), count_tokens(examples)
        if self.backbone.kind == "encoder-decoder":
            extract = torch.full((len(rows), 1), self.special["extract"])
            made = Batch(
                extract,
                torch.full_like(extract, IGNORE_INDEX),
                source=tokens,
                source_positions=padded_positions([row or [pad] for row in rows]),
                text_tokens=read,
                labels=labels,
                pool_index=ends.clamp(max=0),
            )
            return made.to(device)
        targets = torch.full_like(tokens, IGNORE_INDEX)
        if self.lm_loss_weight:
            targets[:, :-1] = tokens[:, 1:]
            targets[torch.arange(tokens.size(1)) >= ends[:, None]] = IGNORE_INDEX
            targets[~self.teaching(examples, each)] = IGNORE_INDEX
        positions = (
            padded_positions([row or [pad] for row in rows])
            if self.backbone.kind == "encoder"
            else None
        )
        return Batch(
            tokens, targets, positions, text_tokens=read, labels=labels, pool_index=ends
        ).to(device)

    def teaching(self, examples: Sequence[Example], each: int) -> Tensor:
        """(B,) bool: the rows whose text is worth learning."""
        return torch.tensor(
            [number < len(example.rows) for example in examples for number in range(each)]
        )

    def _noised(self, batch: Batch) -> Batch:
        """While training, without a share of the tokens of its texts (`token_dropout`)."""
        if not self.training or not self.token_dropout:
            return batch
        tokens = batch.tokens if batch.source is None else batch.source
        marks = torch.tensor(sorted(self.special.values()), device=tokens.device)
        gone = torch.rand(tokens.shape, device=tokens.device) < self.token_dropout
        blank = self.special.get("mask", self.special["pad"])
        kept = tokens.masked_fill(gone & ~torch.isin(tokens, marks), blank)
        return replace(batch, tokens=kept) if batch.source is None else replace(batch, source=kept)

    # ------------------------------------------------------------------ answers

    def forward(self, batch: Batch, state: Cache | None = None) -> Output:
        """Loss of a batch, summed over its examples; the auxiliary one only while training."""
        assert batch.labels is not None
        hidden = self.hidden(self._noised(batch), state)
        scores = self.scores(hidden, batch)
        loss, correct = self.loss_and_correct(scores, batch.labels)
        if self.training and self.lm_loss_weight:
            loss = loss + self.lm_loss_weight * self._of_text(hidden, batch)
        count = torch.tensor(len(batch.labels), device=loss.device)
        return Output(loss, count, correct)

    def scores(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, W) -> (E, L) what the linear layer says of each example, float32 or better."""
        assert batch.pool_index is not None
        rows = torch.arange(hidden.size(0), device=hidden.device)
        last = hidden[rows, batch.pool_index.clamp(min=0)]
        config: Any = self.backbone.config
        last = dropout(last, config.dropout, self.training)
        found = self.gather(last.view(-1, batch.rows_per_example, last.size(-1)), batch)
        return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found

    def gather(self, last: Tensor, batch: Batch) -> Tensor:
        """(E, rows of each, W) -> (E, L)"""
        return self.head(last.sum(1))  # type: ignore[no-any-return]

    def loss_and_correct(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, number of right answers), summed over the examples."""
        if self.criterion is None or not self.training:
            smooth = self.label_smoothing if self.training else 0.0
            loss = F.cross_entropy(scores, labels, reduction="sum", label_smoothing=smooth)
        else:
            loss = self.criterion(scores, labels) * len(labels)
        return loss, (scores.detach().argmax(-1) == labels).sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, L) probabilities of the labels of each example; a task with scores overrides it."""
        return self.scores(self.hidden(batch), batch).softmax(-1)

    def format_answer(
        self, said: Sequence[float], row: Row
    ) -> tuple[str, float, tuple[float, ...]]:
        """(answer for a person, its place or value, probabilities) of what `answers` says of one
        row."""
        place = max(range(len(said)), key=said.__getitem__)
        return self.task_config["labels"][place], float(place), tuple(said)

    def _of_text(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The loss of the next token: a mean over each example's tokens, summed over examples."""
        counted = batch.targets != IGNORE_INDEX
        rows = counted.any(1)
        # whole rows: a new number of tokens at each step would cost a new kernel each time
        logits = self.of_words(hidden[rows])
        losses = F.cross_entropy(logits.mT, batch.targets[rows], reduction="none")
        tokens = counted.sum(1).view(-1, batch.rows_per_example).sum(1)
        # converted first: a quotient of whole numbers is in single precision
        share = (1 / tokens.clamp(min=1).to(losses.dtype)).repeat_interleave(batch.rows_per_example)
        total: Tensor = (losses.sum(1) * share[rows]).sum()
        return total

    def of_words(self, hidden: Tensor) -> Tensor:
        """(..., W) -> (..., V) the scores of tokens as the next one, float32 or better."""
        weight = self.words.weight if self.words is not None else self.backbone.embed.token.weight
        logits = F.linear(hidden, weight)
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def label_names(rows: Iterable[Row]) -> list[str]:
    """The names of all labels, sorted; whole numbers by their value.

    Raises:
        InputError: fewer than two, or so many that it cannot be a column of labels.
    """
    counts = Counter(row["label"] for row in rows)
    if len(counts) < 2:
        only = next(iter(counts), None)
        raise InputError(f"every row has the label {only!r}: there is nothing to tell apart")
    total = counts.total()
    if len(counts) > MOST or (len(counts) > 20 and len(counts) > 0.5 * total):
        raise InputError(
            f"{len(counts):,} labels in {total:,} rows, such as {next(iter(counts))[:40]!r}: that "
            "is no column of labels; name another one with --columns label=NAME"
        )
    whole = all(name.lstrip("-").isdecimal() for name in counts)
    return sorted(counts, key=lambda name: (int(name), name) if whole else (0, name))


def label_index(name: str | None, labels: Sequence[str]) -> int | None:
    """The place of a label; None where the answer is not known.

    Raises:
        BadValue: it was never seen in training.
    """
    if name is None:
        return None
    if name not in labels:
        known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise BadValue(f"has the label {name[:60]!r}, which training never saw; known are {known}")
    return labels.index(name)
