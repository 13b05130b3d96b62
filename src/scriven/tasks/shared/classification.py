"""Tasks whose answer is a label or a number: a linear layer on the last position.

GPT-1 paper, sections 3.2 and 3.3: an input is start token, text, extract token, with a delimiter
between its parts. The hidden state of the extract token goes through a linear layer; the language
model's loss on the text itself is added as an auxiliary loss, a mean over the tokens of each
example. Examples count equally, so a batch can be split anywhere between them.

An encoder reads the same input in both directions, without the auxiliary loss. An encoder-decoder
reads it as the source, and its decoder the extract token alone.

A bag of words stands beside the linear layer: a table fitted to the training rows before the first
step (`train/bag_of_words.py`), whose outputs for a text are added to those of the layer. As the
layer starts at zero, an untrained model answers as the bag of words does.

Few rows are soon learned by heart; `token_dropout` therefore hides other tokens of them each time
(word dropout: Iyyer et al. 2015, section 3.2).
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.batch import IGNORE_INDEX, Batch
from ...errors import DamagedError, InputError
from ...models.base import Architecture
from ...nn.block import zeros
from ...nn.cache import Cache
from ...nn.dropout import dropout
from ...tokenizers.base import Tokenizer
from ..base import UNLIMITED_CONTEXT, Output, at_least_float32
from .columns import BadValue, Row
from .supervised import (
    BAG,
    BAG_PADDING,
    MAX_BAG_ROWS,
    MIN_BAG_ROWS,
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
"""Default weight of the auxiliary language-model loss (GPT-1 paper, section 4.1)."""
MAX_LABELS = 10_000  # A column with more different values is no column of labels


class SequenceClassification(SupervisedTask):
    """A head on the last position. A task file adds columns; other answers than labels also their
    encoding and loss."""

    bag: Tensor | None
    """(rows, L) outputs of each row of a bag of words, whose sum over a text is added."""
    EXTRA_TOKENS = ("start", "delimiter", "extract")
    ANSWER_TYPE = "labels"
    ANSWER_COLUMN = "label"
    loss_unit = "label"
    selection_metric = "accuracy"
    is_generative = False
    echo_prompt = False

    def __init__(self, backbone: Architecture, *args: Any, **kwargs: Any) -> None:
        super().__init__(backbone, *args, **kwargs)
        settings, is_decoder = self.task_config, backbone.kind == "decoder"
        self.lm_loss_weight = (
            float(settings.get("lm_loss_weight", LM_LOSS_WEIGHT)) if is_decoder else 0.0
        )
        self.lm_score_weight = float(settings.get("lm_score_weight") or 0.0) if is_decoder else 0.0
        self.token_dropout = float(settings.get("token_dropout") or 0.0)
        rows, outputs = int(settings.get("bag_of_words") or 0), self.head.out_features
        if rows and not MIN_BAG_ROWS <= rows <= MAX_BAG_ROWS:  # of a record that was edited
            raise DamagedError(f"scriven.json: no bag of words has {rows} rows")
        self.register_buffer(BAG, torch.zeros(rows, outputs) if rows else None)
        config: Any = backbone.config
        untied = self.lm_loss_weight + self.lm_score_weight > 0 and not config.tie_embeddings
        self.words = nn.Linear(config.d_model, self.vocab_size, bias=False) if untied else None
        """The output matrix over tokens, where it is not tied to the embedding table."""

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """The names of the labels."""
        return {"labels": label_names(rows)} if cls.ANSWER_TYPE == "labels" else {}

    def make_head(self) -> nn.Module:
        """The linear layer: an output for each label, or one for each score or choice."""
        named = self.ANSWER_TYPE in ("labels", "labelsets")
        labels = self.task_config.get("labels") if named else ["score"]
        if not labels:  # of a record that was edited
            raise DamagedError("scriven.json: finetune names no labels")
        outputs = len(labels)
        return nn.Linear(self.backbone.config.d_model, outputs, bias=False)

    def init_weights(self) -> None:
        """Draws fresh weights; every answer is equally likely at first."""
        self.backbone.init_weights()
        zeros(self.head.weight)
        if self.words is not None:
            zeros(self.words.weight)

    # ------------------------------------------------------------------ inputs

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, the texts in the order of the columns with delimiters between them, extract."""
        texts = [row[name] for name in self.COLUMNS if name in row and name != self.ANSWER_COLUMN]
        ids, cut = self.encode_parts(tokenizer, *texts)
        label = label_index(row.get(self.ANSWER_COLUMN), self.task_config["labels"])
        return Example((ids,), label=label, cut=cut)

    def example(self, tokenizer: Tokenizer, row: Row) -> Example:
        """As `encode`, with the words of its texts where there is a bag of words."""
        example = self.encode(tokenizer, row)
        if self.bag is None:
            return example
        from .word_features import feature_rows  # a model without labels has no use for it

        names = [name for name in self.COLUMNS if name in row and name != self.ANSWER_COLUMN]
        texts = [row[name] for name in names if isinstance(row[name], str)][:2] or [""]
        return replace(example, features=array("i", feature_rows(texts, len(self.bag))))

    def encode_parts(self, tokenizer: Tokenizer, *parts: str) -> tuple[Ids, int]:
        """Start, the parts with delimiters between them, extract; and how many tokens were cut.

        Of an input longer than the context, the longest part loses its end first.
        """
        return self.join_parts([tokenizer.encode(part) for part in parts])

    def join_parts(self, parts: Sequence[Ids]) -> tuple[Ids, int]:
        """As `encode_parts`, of token ids."""
        fitting, cut = truncate_longest_first(parts, self.room(len(parts)))
        ids = [self.special["start"]]
        for index, part in enumerate(fitting):
            ids += [self.special["delimiter"]] * (index > 0) + part
        return [*ids, self.special["extract"]], cut

    def room(self, parts: int) -> int:
        """Tokens that fit beside the special ones."""
        context = self.backbone.max_position or UNLIMITED_CONTEXT
        check_context(context, 8, "with labels")
        return context - parts - 1

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """(B, T) rows padded on the right; an example with fewer rows than another gets empty ones,
        so that all have the same number of rows."""
        rows_each = max(len(example.rows) for example in examples)
        rows: list[Ids] = []
        for example in examples:
            rows += [*example.rows, *[[]] * (rows_each - len(example.rows))]
        pad, num_tokens = self.special["pad"], count_tokens(examples)
        found = [example.features for example in examples]
        features = None if self.bag is None else pad_rows(found, BAG_PADDING)  # (E, F)
        priors = [example.prior.tolist() for example in examples]
        prior = torch.tensor(priors) if all(priors) else None  # (E, L)
        tokens = pad_rows(rows, pad)  # (B, T)
        last = torch.tensor([len(row) - 1 for row in rows])  # (B,) the extract token; -1: empty
        labels = self.label_tensor(examples)
        if self.backbone.kind == "encoder-decoder":
            extract = torch.full((len(rows), 1), self.special["extract"])
            return Batch(
                extract, torch.full_like(extract, IGNORE_INDEX), source=tokens,
                source_positions=padded_positions([row or [pad] for row in rows]),
                text_tokens=num_tokens, labels=labels, pool_index=last.clamp(max=0),
                features=features, prior=prior,
            ).to(device)  # fmt: skip
        # the text as language-model targets: position t predicts token t + 1, up to the extract
        targets = torch.full_like(tokens, IGNORE_INDEX)
        if self.lm_loss_weight:
            targets[:, :-1] = tokens[:, 1:]
            targets[torch.arange(tokens.size(1)) >= last[:, None]] = IGNORE_INDEX
            targets[~self.lm_rows(examples, rows_each)] = IGNORE_INDEX
        # an encoder attends in both directions, so it must know where padding is
        is_encoder = self.backbone.kind == "encoder"
        positions = padded_positions([row or [pad] for row in rows]) if is_encoder else None
        return Batch(
            tokens,
            targets,
            positions,
            text_tokens=num_tokens,
            labels=labels,
            pool_index=last,
            features=features,
            prior=prior,
        ).to(device)

    def label_tensor(self, examples: Sequence[Example]) -> Tensor:
        """(E,) or (E, L) the answers of examples; zeros where one is not known."""
        known = [example.label for example in examples if example.label is not None]
        return torch.tensor(known) if len(known) == len(examples) else torch.zeros(len(examples))

    def lm_rows(self, examples: Sequence[Example], rows_each: int) -> Tensor:
        """(B,) bool: the rows whose text the auxiliary loss learns."""
        return torch.tensor([i < len(each.rows) for each in examples for i in range(rows_each)])

    def _drop_tokens(self, batch: Batch) -> Batch:
        """While training, replaces random tokens of the texts (`token_dropout`)."""
        if not self.training or not self.token_dropout:
            return batch
        tokens = batch.tokens if batch.source is None else batch.source  # (B, T)
        special = torch.tensor(sorted(self.special.values()), device=tokens.device)
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.token_dropout
        blank = self.special.get("mask", self.special["pad"])
        tokens = tokens.masked_fill(dropped & ~torch.isin(tokens, special), blank)
        if batch.source is None:
            return replace(batch, tokens=tokens)
        return replace(batch, source=tokens)

    # ------------------------------------------------------------------ answers

    def forward(self, batch: Batch, state: Cache | None = None) -> Output:
        """Loss of a batch, summed over its examples; auxiliary losses only while training."""
        assert batch.labels is not None
        hidden = self.hidden(self._drop_tokens(batch), state)  # (B, T, C)
        scores = self.scores(hidden, batch)  # (E, L)
        loss, correct = self.loss_and_correct(scores, batch.labels)
        if self.training and self.lm_loss_weight:
            loss = loss + self.lm_loss_weight * self._lm_loss(hidden, batch)
        count = torch.tensor(len(batch.labels), device=loss.device)
        return Output(self.add_aux_loss(loss, count), count, correct)

    def scores(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, C) -> (E, L) outputs of the linear layer for each example, float32 or better."""
        last = dropout(self.last_hidden(hidden, batch), self.backbone.config.dropout, self.training)
        scores = at_least_float32(self.pool(last, batch))
        return scores if self.bag is None else scores + self.bag_outputs(batch)

    def last_hidden(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, C) -> (E, rows of each, C) the hidden states of the last positions."""
        assert batch.pool_index is not None
        rows = torch.arange(hidden.size(0), device=hidden.device)
        last = hidden[rows, batch.pool_index.clamp(min=0)]  # (B, C)
        return last.view(-1, batch.rows_per_example, last.size(-1))

    def bag_outputs(self, batch: Batch) -> Tensor:
        """(E, L) outputs of the bag of words; while training, of a fit without the example."""
        if self.training and batch.prior is not None:
            return batch.prior
        assert batch.features is not None and self.bag is not None
        return F.embedding_bag(batch.features, self.bag, mode="sum", padding_idx=BAG_PADDING)

    def pool(self, last: Tensor, batch: Batch) -> Tensor:
        """(E, rows of each, C) -> (E, L); the rows of an example are summed."""
        return self.head(last.sum(1))  # type: ignore[no-any-return]

    def score_each(self, last: Tensor, batch: Batch) -> Tensor:
        """(E, rows, C) -> (E, rows) an output for each row; -inf for rows that an example lacks."""
        assert batch.pool_index is not None
        scores: Tensor = self.head(last).squeeze(-1)
        is_empty = batch.pool_index.view_as(scores) < 0
        return scores.masked_fill(is_empty, -torch.inf)

    def loss_and_correct(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, number of right answers) of (E, L) scores, summed over the examples."""
        if self.criterion is None or not self.training:
            smoothing = self.label_smoothing if self.training else 0.0
            loss = F.cross_entropy(scores, labels, reduction="sum", label_smoothing=smoothing)
        else:
            loss = self.criterion(scores, labels) * len(labels)
        return loss, (scores.detach().argmax(-1) == labels).sum()

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> Tensor:
        """(E, L) probabilities of the labels of each example; a regression task overrides it."""
        return self.scores(self.hidden(batch), batch).softmax(-1)

    def format_answer(
        self, prediction: Sequence[float], row: Row, example: Example
    ) -> tuple[str, Any, tuple[float, ...]]:
        """(answer as text, its index or value, probabilities) of one row of `predictions`."""
        index = max(range(len(prediction)), key=prediction.__getitem__)
        return self.task_config["labels"][index], float(index), tuple(prediction)

    def _lm_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Next-token loss: a mean over each example's tokens, summed over examples."""
        is_target = batch.targets != IGNORE_INDEX  # (B, T)
        # whole rows: a new number of tokens at each step would cost a new kernel each time
        rows = is_target.any(1)  # (B,)
        logits = self.lm_logits(hidden[rows])  # (R, T, V)
        losses = F.cross_entropy(logits.mT, batch.targets[rows], reduction="none")  # (R, T)
        tokens = is_target.sum(1).view(-1, batch.rows_per_example).sum(1)  # (E,)
        # converted first: a quotient of integers is in single precision
        weight = (1 / tokens.clamp(min=1).to(losses.dtype)).repeat_interleave(
            batch.rows_per_example
        )
        loss: Tensor = (losses.sum(1) * weight[rows]).sum()
        return loss

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V) logits of the next token, float32 or better."""
        return at_least_float32(self.backbone.logits(hidden, self.words))


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
    if len(counts) > MAX_LABELS or (len(counts) > 20 and len(counts) > 0.5 * total):
        raise InputError(
            f"{len(counts):,} labels in {total:,} rows, such as {next(iter(counts))[:40]!r}: that "
            "is no column of labels; name another one with --columns label=NAME"
        )
    whole = all(name.lstrip("-").isdecimal() for name in counts)
    return sorted(counts, key=lambda name: (int(name), name) if whole else (0, name))


def label_index(name: str | None, labels: Sequence[str]) -> int | None:
    """The index of a label; None where the answer is not known.

    Raises:
        BadValue: it was never seen in training.
    """
    if name is None:
        return None
    if name not in labels:
        known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise BadValue(f"has the label {name[:60]!r}, which training never saw; known are {known}")
    return labels.index(name)
