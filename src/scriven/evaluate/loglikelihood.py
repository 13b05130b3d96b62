"""Log-likelihood of continuations, batched, and of whole texts, for multiple-choice evaluation.

Every token of a continuation counts, however long it is. Knows no benchmark task.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..data.batch import IGNORE_INDEX, TOKENS_PER_BATCH, Batch, eval_streams, eval_windows
from ..data.shards import TokenFile
from ..errors import InputError
from ..nn.cache import Cache
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tasks.seq2seq import Seq2Seq
from ..tasks.shared.supervised import pad_rows, padded_positions
from ..tokenizers import Tokenizer
from .loss import evaluate_loss

LOGITS_AT_ONCE = 512
"""Positions whose logits are in memory together: with 50,000 tokens each they are 100 MB."""


@dataclass(frozen=True)
class Loglikelihood:
    """The log-likelihood of a continuation."""

    nats: float  # ln of its probability: 0 or below
    greedy: bool  # whether each of its tokens had the highest probability
    cut: bool  # whether the beginning of the text before it did not fit into the context


@dataclass(frozen=True)
class _Row:
    """One input, whose last `len(targets)` positions predict `targets`."""

    request: int  # index of the continuation it is a part of
    tokens: list[int]
    targets: list[int]
    source: list[int] | None = None  # input of the encoder
    cut: bool = False

    @property
    def length(self) -> int:
        return len(self.tokens) + len(self.source or ())


class LoglikelihoodScorer:
    """Scores texts with a model.

    Raises:
        InputError: a model that writes no text, such as a classifier.
    """

    def __init__(self, task: BaseTask, tokenizer: Tokenizer, runtime: Runtime) -> None:
        if not task.is_generative:
            raise InputError(
                f"this model was trained for {type(task).__name__.lower()} and writes no text, so "
                "it gives a continuation no probability: use a model that writes"
            )
        self.task, self.tokenizer, self.runtime = task, tokenizer, runtime
        self.context_length = task.backbone.config.context_length

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """The log-likelihood of each (text, continuation), in the order given.

        A text longer than the context loses its beginning. A continuation longer than the context
        is scored in windows that do not overlap, the first of which is filled up with the text.
        A model that answers questions gets the prompt of its task.

        Raises:
            InputError: an answer that is longer than what the model can write.
        """
        nats, greedy, cut = [0.0] * len(pairs), [True] * len(pairs), [False] * len(pairs)
        # 1. the windows of all continuations; 2. scored in batches of like length; 3. summed
        rows = [row for number, pair in enumerate(pairs) for row in self._rows(number, *pair)]
        training = self.task.training
        self.task.eval()
        try:
            for batch in _batches(rows):
                for row, (row_nats, is_greedy) in zip(batch, self._score(batch), strict=True):
                    nats[row.request] += row_nats
                    greedy[row.request] &= is_greedy
                    cut[row.request] |= row.cut
        finally:
            self.task.train(training)
        return [Loglikelihood(*each) for each in zip(nats, greedy, cut, strict=True)]

    def loglikelihood_rolling(self, text: str) -> float:
        """ln of the probability of a whole text, as `evaluate_loss` measures it: every token once,
        in windows without overlap, the first token predicted from end-of-text.

        Raises:
            InputError: a model that answers questions, which gives a text no probability.
        """
        task, device = self.task, self.runtime.device
        if not task.echo_prompt:
            raise InputError(
                "a model that answers gives a text alone no probability: leave out the tasks "
                "with output_type loglikelihood_rolling"
            )
        ids = self.tokenizer.encode(text)
        if not ids:
            return 0.0
        shard = _InMemory(ids)
        if isinstance(task, Seq2Seq):
            batches = task.eval_batches(shard, device)
        else:
            cut: Callable[..., Iterator[Batch]] = (
                eval_streams if task.backbone.is_recurrent else eval_windows
            )
            batches = cut(shard, self.context_length, self.tokenizer.eos, device)
        score = evaluate_loss(task, batches, text_bytes=1, runtime=self.runtime)
        assert score is not None and score.tokens == len(ids)
        return -score.loss * score.tokens

    def _rows(self, request: int, text: str, continuation: str) -> Iterator[_Row]:
        """The windows in which one continuation is scored."""
        task = self.task
        if not task.echo_prompt:
            yield from self._answer(request, text, continuation)
            return
        context, targets = encode_pair(self.tokenizer, text, continuation)
        if not isinstance(task, Seq2Seq):
            context = context or [self.tokenizer.eos]
        size, room = self._window(len(targets))
        cut = room is not None and len(context) > room
        ids, start = [*context, *targets], len(context)  # start: the first token to score
        take = len(targets) % size or size  # the first window is the one that is not full
        while start < len(ids):
            scored = ids[start : start + take]
            # the last token is only a target, so it is not an input
            source, tokens = task.build_inputs(ids[: start + take - 1], len(scored) - 1)
            if source is None and room is not None:
                tokens = tokens[-self.context_length :]
            yield _Row(request, tokens, scored, source, cut)
            start, take = start + take, size

    def _window(self, targets: int) -> tuple[int, int | None]:
        """(targets scored per window, room for the text before a continuation), in tokens; a
        recurrent model has room for any text."""
        if isinstance(self.task, Seq2Seq):
            return self.task.max_tail, self.context_length - 1
        if self.task.backbone.is_recurrent:
            return max(1, targets), None
        return self.context_length, max(1, self.context_length + 1 - targets)

    def _answer(self, request: int, text: str, continuation: str) -> Iterator[_Row]:
        """The one row of a model that answers; prompt and answer are encoded apart, as in
        training."""
        task, targets = self.task, self.tokenizer.encode(continuation)
        if not targets:
            return
        if task.max_new_tokens is not None and len(targets) > task.max_new_tokens:
            raise InputError(
                f"an answer of {len(targets)} tokens is longer than the {task.max_new_tokens} that "
                "this model can write: take shorter ones"
            )
        whole = task.encode_prompt(self.tokenizer, text) or [self.tokenizer.eos]
        prompt = task.truncate_prompt(whole)
        source, tokens = task.build_inputs([*prompt, *targets[:-1]], len(targets) - 1)
        yield _Row(request, tokens, targets, source, len(prompt) < len(whole))

    def _score(self, rows: list[_Row]) -> Iterator[tuple[float, bool]]:
        """(nats, whether greedy) of each row."""
        nats = torch.zeros(len(rows), dtype=torch.float64)
        misses = torch.zeros(len(rows), dtype=torch.int64)
        for hidden, targets in self._hidden(self._collate(rows)):  # (B, T, W), (B, T)
            row, place = (targets != IGNORE_INDEX).nonzero(as_tuple=True)  # (N,) each
            for start in range(0, len(row), LOGITS_AT_ONCE):
                part = slice(start, start + LOGITS_AT_ONCE)
                with torch.inference_mode(), self.runtime.autocast():
                    logits = self.task.logits(hidden[row[part], place[part]])  # (n, V)
                target, owner = targets[row[part], place[part]], row[part].cpu()
                loss = F.cross_entropy(logits, target, reduction="none").cpu().double()
                nats.index_add_(0, owner, -loss)
                misses.index_add_(0, owner, (logits.argmax(-1) != target).cpu().long())
        return zip(nats.tolist(), (misses == 0).tolist(), strict=True)

    def _hidden(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """(hidden states, targets); a recurrent model reads in pieces of its context length."""
        backbone = self.task.backbone
        size = self.context_length if backbone.is_recurrent else batch.tokens.size(1)
        # read piece by piece, as in training; the state carries what came before
        state: Cache | None = backbone.recurrent_state(batch.tokens.size(0))
        for start in range(0, batch.tokens.size(1), size):
            part = slice(start, start + size)
            piece = Batch(
                batch.tokens[:, part],
                batch.targets[:, part],
                source=batch.source,
                source_positions=batch.source_positions,
            )
            with torch.inference_mode(), self.runtime.autocast():
                hidden = self.task.hidden(piece, state)
            yield hidden, piece.targets

    def _collate(self, rows: list[_Row]) -> Batch:
        """Rows padded on the right, which no scored position attends to."""
        pad = self.tokenizer.pad
        targets = [
            [IGNORE_INDEX] * (len(row.tokens) - len(row.targets)) + row.targets for row in rows
        ]
        batch = Batch(pad_rows([row.tokens for row in rows], pad), pad_rows(targets, IGNORE_INDEX))
        if rows[0].source is not None:
            sources = [row.source or [] for row in rows]
            batch = replace(
                batch, source=pad_rows(sources, pad), source_positions=padded_positions(sources)
            )
        return batch.to(self.runtime.device)


def encode_pair(tokenizer: Tokenizer, text: str, continuation: str) -> tuple[list[int], list[int]]:
    """(tokens of the text, tokens of the continuation), split as lm-evaluation-harness does.

    A token may begin in the text and end in the continuation, as the space before a word does. So
    spaces at the end of the text go to the continuation, both are encoded together, and the
    continuation is what follows after as many tokens as the text has alone.
    """
    stripped = text.rstrip()
    continuation, text = text[len(stripped) :] + continuation, stripped
    context = tokenizer.encode(text)
    targets = tokenizer.encode(text + continuation)[len(context) :]
    if not targets and continuation:  # merged into the text's last token
        targets = tokenizer.encode(continuation)
    return context, targets


def _batches(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Rows of like length together, the longest first, so that memory runs out at once or never."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: row.length, reverse=True):
        # the first row of a batch is its longest, to which the others are padded
        if batch and (len(batch) + 1) * batch[0].length > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _InMemory(TokenFile):
    """Token ids in memory with the interface of a shard on disk."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = np.array(ids, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        return self._ids[start : start + count]
