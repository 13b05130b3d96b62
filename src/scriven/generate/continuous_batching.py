"""Continuous batching: texts join and leave a running batch at any token (Orca, Yu et al. 2022).

Each request has settings, a seed and random numbers of its own, so its text does not depend on the
others. A long prompt is read in pieces between the steps of the batch, so that nobody waits for it
(chunked prefill, Agrawal et al. 2023). Where rows of a model cannot have lengths of their own (a
recurrent network, an encoder-decoder), each request is a batch of one, and they take turns.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError
from .engine import Engine, compacted
from .model_runner import ModelRunner, length_after_eviction
from .sampling import NOT_FINITE, SamplingParams, sample_rows
from .sequence import Sequence

PREFILL_TOKENS = 64
"""Tokens of waiting prompts that are read between two steps of the batch."""


class LogitsHook(Protocol):
    """Changes the logits of one text beyond what `SamplingParams` can: token biases, penalties by
    count, a grammar."""

    def __call__(self, logits: Tensor) -> Tensor:
        """(V,) logits of the next token -> (V,)."""

    def accept(self, token: int) -> None:
        """Sees each token that was chosen."""


@dataclass(frozen=True)
class TokenLogprob:
    """A token and its natural log-probability in the model's own distribution."""

    token: int
    logprob: float


@dataclass(frozen=True)
class Step:
    """A token of a text: what became safe to show, and how likely it was."""

    request: "BatchRequest"
    text: str
    token: int
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()
    """The likeliest tokens, if asked for."""
    is_last: bool = False
    error: Exception | None = None
    """The request has failed, and left the batch."""


@dataclass(eq=False)
class BatchRequest:
    """One text to generate."""

    sequence: Sequence
    sampling: SamplingParams
    hook: LogitsHook | None = None
    top_logprobs: int | None = None
    """How many of the likeliest tokens to report with each; None: no log-probabilities."""
    cancelled: bool = False
    """Set from any thread; the request leaves at the next token."""
    unread: list[int] = field(default_factory=list)
    """Tokens of the prompt that the model has not read yet."""
    seen: Tensor | None = None
    """(V,) bool, the tokens already in the text, for a repetition penalty."""


@dataclass(eq=False)
class _Rows:
    """Requests that are decoded together, one a row."""

    runner: ModelRunner
    requests: list[BatchRequest]


class ContinuousBatch:
    """The texts that a model is generating now.

    Not for several threads at once, but for `BatchRequest.cancelled`.
    """

    def __init__(self, engine: Engine, slots: int = 32) -> None:
        """An empty batch for up to `slots` texts; the model must not be trained meanwhile."""
        engine.task.eval()
        self.engine, self.slots = engine, slots
        self.capacity = engine.task.max_context
        self.waiting: deque[BatchRequest] = deque()
        self._prefilling: list[_Rows] = []
        self._alone: list[_Rows] = []
        runner = engine.new_runner()
        # an encoder reads a source for each row, so its rows are generated one by one
        has_source = engine.task.build_inputs([engine.bos], 0)[0] is not None
        self._batch: _Rows | None = None
        if not has_source and runner.reserve(slots, self.capacity):
            self._batch = _Rows(runner, [])

    @property
    def running(self) -> int:
        """Texts that have a slot."""
        decoding = 0 if self._batch is None else len(self._batch.requests)
        return decoding + len(self._prefilling) + len(self._alone)

    def __bool__(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, request: BatchRequest) -> None:
        """Queues a request; it gets a slot when one is free, in the order of arrival."""
        self.waiting.append(request)

    def step(self) -> Iterator[Step]:
        """Reads a piece of a waiting prompt and generates a token of each running text."""
        # 1. cancelled requests leave, waiting ones get their slots
        self._drop_cancelled()
        while self.waiting and self.running < self.slots:
            self._admit(self.waiting.popleft())
        # 2. the shortest unread prompts, or a piece of one, so that a long one delays no short one
        if self._prefilling:
            self._prefilling.sort(key=_unread)
            yield from self._prefill()
        # 3. one token of every text
        for rows in [*self._alone, *([self._batch] if self._batch else [])]:
            if rows.requests:
                yield from self._decode(rows)
        self._alone = [rows for rows in self._alone if rows.requests]

    def _drop_cancelled(self) -> None:
        self.waiting = deque(each for each in self.waiting if not each.cancelled)
        self._prefilling = [rows for rows in self._prefilling if not rows.requests[0].cancelled]
        for rows in [*self._alone, *([self._batch] if self._batch else [])]:
            self._keep(rows, [not each.cancelled for each in rows.requests])
        self._alone = [rows for rows in self._alone if rows.requests]

    def _admit(self, request: BatchRequest) -> None:
        if request.sequence.finish_reason is not None:  # nothing is to be generated
            return
        rows = _Rows(self.engine.new_runner(), [request])
        if request.sampling.needs_seen_tokens:
            request.seen = torch.zeros(self.engine.tokenizer.vocab_size, dtype=torch.bool)
            request.seen[request.sequence.window] = True
        if self._batch is None:
            self._alone.append(rows)
            return
        _, request.unread = self.engine.task.build_inputs(request.sequence.window, 0)
        request.unread = list(request.unread)
        if len(request.unread) > self.capacity:
            del request.unread[: -length_after_eviction(self.capacity)]
        self._prefilling.append(rows)

    def _prefill(self) -> Iterator[Step]:
        """Reads a piece of a prompt, or some short prompts; their texts then join the batch."""
        few = self._short_prompts()
        if len(few) > 1:
            # 1. whole prompts in one pass
            rows = _Rows(few[0].runner, [request for each in few for request in each.requests])
            windows = [request.sequence.window for request in rows.requests]
            logits = rows.runner.prefill(windows, 0, check_logits=False)  # (B, V)
        else:
            # 2. a piece of the shortest; nobody waits while nothing is being generated
            rows = self._prefilling[0]
            (request,) = rows.requests
            if not rows.runner.room:
                rows.runner.begin(len(request.unread))
            size = PREFILL_TOKENS if self._batch and self._batch.requests else len(request.unread)
            piece, request.unread = request.unread[:size], request.unread[size:]
            logits = rows.runner.decode_many([piece], last_only=True)[:, -1]  # (1, V)
            if request.unread:
                return
            few = [rows]
        # 3. their first tokens
        self._prefilling = [each for each in self._prefilling if each not in few]
        yield from self._choose(rows, logits)
        if rows.requests and self._batch is not None:
            self._batch.runner.join(rows.runner)
            self._batch.requests += rows.requests

    def _short_prompts(self) -> list[_Rows]:
        """The prompts, from the shortest on, that are read whole in one pass."""
        total, few = 0, list[_Rows]()
        for rows in self._prefilling:
            total += _unread(rows)
            if rows.runner.room or total > PREFILL_TOKENS:  # begun already, or too many tokens
                break
            few.append(rows)
        return few

    def _decode(self, rows: _Rows) -> Iterator[Step]:
        """One more token of each row, or several."""
        runner, sequences = rows.runner, [each.sequence for each in rows.requests]
        steps = min(runner.max_steps, *(sequence.remaining for sequence in sequences))
        if steps > 1 and not self._prefilling and all(map(_is_plain, rows.requests)):
            yield from self._decode_steps(rows, steps)
            return
        windows = [sequence.window for sequence in sequences]
        counts = [sequence.num_tokens for sequence in sequences]
        if runner.room or runner.evict_half(windows, counts):
            logits = runner.decode([window[-1] for window in windows])  # (B, V)
        else:
            logits = runner.prefill(windows, max(each.remaining for each in sequences), counts)
        yield from self._choose(rows, logits)

    def _decode_steps(self, rows: _Rows, count: int) -> Iterator[Step]:
        """Up to `count` more tokens of each row, by one call of compiled code."""
        sequences = [each.sequence for each in rows.requests]
        settings = [each.sampling.native for each in rows.requests]
        uniforms = [number for sequence in sequences for number in sequence.uniforms(count)]
        drawn = rows.runner.decode_steps(
            [sequence.window[-1] for sequence in sequences],
            [each for each in settings if each is not None],
            uniforms,
            sorted(self.engine.stop_token_ids),
        )
        steps, stays = list[Step](), list[bool]()
        for request, tokens in zip(rows.requests, drawn, strict=True):
            sequence, failed = request.sequence, False
            for token in tokens:
                if token < 0:
                    steps.append(Step(request, "", -1, error=InputError(NOT_FINITE)))
                    failed = True
                elif sequence.finish_reason is None:  # not behind a stop string
                    text = sequence.append(token)
                    is_last = sequence.finish_reason is not None
                    steps.append(Step(request, text, token, is_last=is_last))
            stays.append(not failed and sequence.finish_reason is None)
        self._keep(rows, stays)
        yield from steps

    def _choose(self, rows: _Rows, logits: Tensor) -> Iterator[Step]:
        """Samples a token for each row from its logits (B, V); finished rows leave."""
        tokens: list[int | None] = [None] * len(rows.requests)
        steps: list[Step] = []
        finite = torch.isfinite(logits.amax(-1)).tolist()
        # 1. what belongs to one text: its biases, penalties and grammar
        scores = logits.clone() if any(each.hook for each in rows.requests) else logits
        errors: dict[int, Exception] = {}
        for row, request in enumerate(rows.requests):
            if not finite[row]:
                errors[row] = InputError(NOT_FINITE)
            elif request.hook is not None:
                try:
                    scores[row] = request.hook(logits[row])
                except InputError as error:
                    errors[row] = error
        # 2. each with its own settings and random number
        chosen = [row for row in range(len(rows.requests)) if row not in errors]
        if chosen:
            requests = [rows.requests[row] for row in chosen]
            uniforms = [
                0.0 if each.sampling.greedy else each.sequence.uniforms(1)[0] for each in requests
            ]
            drawn = sample_rows(
                scores[chosen] if errors else scores,
                [each.sampling for each in requests],
                uniforms,
                [each.seen for each in requests],
            )
            for row, number in zip(chosen, drawn, strict=True):
                tokens[row] = number
        # 3. each text takes its token
        logprobs = self._logprobs(rows.requests, logits)
        for row, request in enumerate(rows.requests):
            token = tokens[row]
            if token is None:
                steps.append(Step(request, "", -1, error=errors[row]))
                continue
            logprob, top = logprobs(row, token)
            if request.seen is not None:
                request.seen[token] = True
            if request.hook is not None:
                request.hook.accept(token)
            text = request.sequence.append(token)
            is_last = request.sequence.finish_reason is not None
            steps.append(Step(request, text, token, logprob, top, is_last))
        self._keep(
            rows,
            [
                row not in errors and each.sequence.finish_reason is None
                for row, each in enumerate(rows.requests)
            ],
        )
        yield from steps

    def _logprobs(self, requests: list[BatchRequest], logits: Tensor) -> "_Logprobs":
        wanted = [row for row, each in enumerate(requests) if each.top_logprobs is not None]
        table = logits[wanted].double().log_softmax(-1) if wanted else None
        return _Logprobs(table, wanted, [each.top_logprobs or 0 for each in requests])

    def _keep(self, rows: _Rows, stays: list[bool]) -> None:
        """Rows of finished or cancelled texts leave."""
        if all(stays):
            return
        order = compacted(stays)
        rows.requests = [rows.requests[row] for row in order]
        if len(stays) > 1 or rows is self._batch:
            rows.runner.keep(order)


@dataclass(frozen=True)
class _Logprobs:
    """Log-probabilities of the rows that asked for them."""

    table: Tensor | None
    """(R, V) of these rows."""
    rows: list[int]
    counts: list[int]

    def __call__(self, row: int, token: int) -> tuple[float | None, tuple[TokenLogprob, ...]]:
        """That of the chosen token, and the likeliest ones."""
        if self.table is None or row not in self.rows:
            return None, ()
        own = self.table[self.rows.index(row)]
        values, ids = own.topk(min(self.counts[row], own.numel()))
        top = zip(ids.tolist(), values.tolist(), strict=True)
        return float(own[token]), tuple(TokenLogprob(*pair) for pair in top)


def _is_plain(request: BatchRequest) -> bool:
    """Whether nothing but compiled code needs the logits of its tokens."""
    by_hook = request.hook is not None or request.top_logprobs is not None
    return request.sampling.native is not None and not by_hook


def _unread(rows: _Rows) -> int:
    return len(rows.requests[0].unread)
