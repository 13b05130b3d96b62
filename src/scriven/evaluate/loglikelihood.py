"""How likely a model finds one text after another, for many pairs at once, and a whole text alone.

Every token of a continuation counts, however long it is. Knows nothing of tasks and their scores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..data.batch import IGNORE_INDEX, Batch
from ..data.collate import TOKENS_PER_BATCH, eval_streams, eval_windows
from ..data.shards import TokenFile
from ..errors import InputError
from ..nn.state import State
from ..runtime import Runtime
from ..tasks.base import Objective
from ..tasks.seq2seq import Seq2Seq
from ..tasks.shared.examples import filled, places
from ..tokenizers import Tokenizer
from .loss import evaluate_loss

SCORED_AT_ONCE = 512
"""Places whose logits are in memory together: of 50,000 tokens each they are 100 MB."""


@dataclass(frozen=True)
class Loglikelihood:
    """What a model makes of a continuation."""

    nats: float
    """ln of its probability: 0 or below."""
    greedy: bool
    """Whether each of its tokens was the likeliest one."""
    cut: bool
    """Whether the beginning of what stands before it did not fit."""


@dataclass(frozen=True)
class _Row:
    """One thing to read. What comes after its last `len(after)` tokens is scored."""

    number: int
    tokens: list[int]
    after: list[int]
    source: list[int] | None = None
    """What an encoder reads."""
    cut: bool = False

    @property
    def length(self) -> int:
        return len(self.tokens) + len(self.source or ())


class LoglikelihoodScorer:
    """A model, its tokenizer and the machine.

    Raises:
        InputError: a model that does not go on with a text.
    """

    def __init__(self, task: Objective, tokenizer: Tokenizer, runtime: Runtime) -> None:
        if not task.writes:
            raise InputError(
                f"this model was trained for {type(task).__name__.lower()} and writes no text, so "
                "it gives a continuation no probability: take a model that writes"
            )
        self.task, self.tokenizer, self.runtime = task, tokenizer, runtime
        self.context_length = task.backbone.config.context_length

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """The likelihood of each (text, continuation), in the order given.

        A text longer than the context loses its beginning. A continuation longer than the context
        is scored in windows that do not overlap, the first of which is filled up with the text. A
        model that answers is asked as its task asks it.

        Raises:
            InputError: an answer that is longer than what the model can write.
        """
        nats, greedy, cut = [0.0] * len(pairs), [True] * len(pairs), [False] * len(pairs)
        rows = [row for number, pair in enumerate(pairs) for row in self._rows(number, *pair)]
        training = self.task.training
        self.task.eval()
        try:
            for group in _groups(rows):
                for row, (found, likeliest) in zip(group, self._score(group), strict=True):
                    nats[row.number] += found
                    greedy[row.number] &= likeliest
                    cut[row.number] |= row.cut
        finally:
            self.task.train(training)
        return [Loglikelihood(*each) for each in zip(nats, greedy, cut, strict=True)]

    def loglikelihood_rolling(self, text: str) -> float:
        """ln of the probability of a text alone, as `evaluate_loss` measures it: every token once,
        in windows without overlap, the first token predicted from the end of a document.

        Raises:
            InputError: a model that answers, which gives no text a probability of its own.
        """
        task, device = self.task, self.runtime.device
        if not task.continues:
            raise InputError(
                "a model that answers gives a text alone no probability: leave out the tasks "
                "with output_type loglikelihood_rolling"
            )
        ids = self.tokenizer.encode(text)
        if not ids:
            return 0.0
        shard = _Held(ids)
        if isinstance(task, Seq2Seq):
            batches = task.examine(shard, device)
        else:
            cut: Callable[..., Iterator[Batch]] = (
                eval_streams if task.backbone.remembers else eval_windows
            )
            batches = cut(shard, self.context_length, self.tokenizer.eos, device)
        score = evaluate_loss(task, batches, text_bytes=1, runtime=self.runtime)
        assert score is not None and score.tokens == len(ids)
        return -score.loss * score.tokens

    def _rows(self, number: int, text: str, continuation: str) -> Iterator[_Row]:
        """What has to be read to score one continuation."""
        task = self.task
        if not task.continues:
            yield from self._answer(number, text, continuation)
            return
        before, after = encode_pair(self.tokenizer, text, continuation)
        if not isinstance(task, Seq2Seq):
            before = before or [self.tokenizer.eos]
        size, room = self._window(len(after))
        cut = room is not None and len(before) > room
        whole, start = [*before, *after], len(before)
        take = len(after) % size or size
        while start < len(whole):
            written = whole[start : start + take]
            source, tokens = task.arrange(whole[: start + take - 1], len(written) - 1)
            if source is None and room is not None:
                tokens = tokens[-self.context_length :]
            yield _Row(number, tokens, written, source, cut)
            start, take = start + take, size

    def _window(self, length: int) -> tuple[int, int | None]:
        """(tokens scored at once, room for the text before a continuation of `length` tokens)."""
        if isinstance(self.task, Seq2Seq):
            return self.task.chunk, self.context_length - 1
        if self.task.backbone.remembers:
            return max(1, length), None
        return self.context_length, max(1, self.context_length + 1 - length)

    def _answer(self, number: int, text: str, continuation: str) -> Iterator[_Row]:
        """The same of a model that answers: question and answer are encoded apart, as in
        training."""
        task, after = self.task, self.tokenizer.encode(continuation)
        if not after:
            return
        if task.longest is not None and len(after) > task.longest:
            raise InputError(
                f"an answer of {len(after)} tokens is longer than the {task.longest} that this "
                "model can write: take shorter ones"
            )
        asked = task.prompt(self.tokenizer, text) or [self.tokenizer.eos]
        question = task.shorten(asked)
        source, tokens = task.arrange([*question, *after[:-1]], len(after) - 1)
        yield _Row(number, tokens, after, source, len(question) < len(asked))

    def _score(self, rows: list[_Row]) -> Iterator[tuple[float, bool]]:
        """(nats, whether greedy) of each row."""
        batch = self._batch(rows)
        nats = torch.zeros(len(rows), dtype=torch.float64)
        missed = torch.zeros(len(rows), dtype=torch.int64)
        for hidden, targets in self._read(batch):
            row, place = (targets != IGNORE_INDEX).nonzero(as_tuple=True)
            for start in range(0, len(row), SCORED_AT_ONCE):
                part = slice(start, start + SCORED_AT_ONCE)
                with torch.inference_mode(), self.runtime.autocast():
                    logits = self.task.logits(hidden[row[part], place[part]])
                wanted, owner = targets[row[part], place[part]], row[part].cpu()
                found = F.cross_entropy(logits, wanted, reduction="none").cpu().double()
                nats.index_add_(0, owner, -found)
                missed.index_add_(0, owner, (logits.argmax(-1) != wanted).cpu().long())
        return zip(nats.tolist(), (missed == 0).tolist(), strict=True)

    def _read(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """(hidden states, targets): of a model that remembers in pieces of its context."""
        backbone = self.task.backbone
        size = self.context_length if backbone.remembers else batch.tokens.size(1)
        state: State | None = backbone.carried(batch.tokens.size(0))
        for start in range(0, batch.tokens.size(1), size):
            part = slice(start, start + size)
            piece = Batch(
                batch.tokens[:, part],
                batch.targets[:, part],
                source=batch.source,
                source_at=batch.source_at,
            )
            with torch.inference_mode(), self.runtime.autocast():
                hidden = self.task.hidden(piece, state)
            yield hidden, piece.targets

    def _batch(self, rows: list[_Row]) -> Batch:
        """Rows filled on the right, where nothing that counts looks."""
        pad = self.tokenizer.pad
        targets = [[IGNORE_INDEX] * (len(row.tokens) - len(row.after)) + row.after for row in rows]
        made = Batch(filled([row.tokens for row in rows], pad), filled(targets, IGNORE_INDEX))
        if rows[0].source is not None:
            sources = [row.source or [] for row in rows]
            made = replace(made, source=filled(sources, pad), source_at=places(sources))
        return made.to(self.runtime.device)


def encode_pair(tokenizer: Tokenizer, text: str, continuation: str) -> tuple[list[int], list[int]]:
    """(tokens of the text, tokens of the continuation), as lm-evaluation-harness cuts them.

    A token may begin in the text and end in the continuation, as the space before a word does. So
    spaces at the end of the text go to the continuation, both are encoded together, and the
    continuation is what follows after as many tokens as the text has alone.
    """
    bare = text.rstrip()
    continuation, text = text[len(bare) :] + continuation, bare
    before = tokenizer.encode(text)
    after = tokenizer.encode(text + continuation)[len(before) :]
    if not after and continuation:  # swallowed whole by the text's last token
        after = tokenizer.encode(continuation)
    return before, after


def _groups(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Rows of like length together, the longest first, so that memory runs out at once or never."""
    group: list[_Row] = []
    for row in sorted(rows, key=lambda row: row.length, reverse=True):
        if group and (len(group) + 1) * group[0].length > TOKENS_PER_BATCH:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


class _Held(TokenFile):
    """A text in memory, read as if it lay on the disk."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = np.array(ids, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        return self._ids[start : start + count]
