"""Runs a model over rows of tokens, with a KV cache, and gives the logits of the next token.

Each row has its own length in the cache, so rows of a batch advance independently; a row that has
filled the model's context evicts its oldest half. Where a model has no such cache (a recurrent
one), shorter rows are padded on the left. Knows token ids only.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..native.decoder import LazyDecoder, NativeSession
from ..native.library import Settings
from ..nn.cache import Cache
from ..tasks.base import BaseTask
from .prompt_lookup import COMPILED_COSTS, PYTORCH_COSTS, PassCosts

MAX_STEPS, MAX_STEPS_SECONDS = 8, 0.004
"""How many tokens of each row compiled code draws in one call, and how long that may take: Python
costs as much as a forward pass of a small model, and a text is shown after each call."""


def length_after_eviction(context: int) -> int:
    """How many of its last tokens a row keeps when it has filled the context: half of it.

    These are read again from position 0, which costs one token read for each one generated, however
    long the text becomes. It depends on the row alone, so a text is the same in any batch.
    """
    return context - context // 2


class ModelRunner:
    """A model with the KV cache of the rows it has read."""

    def __init__(
        self,
        task: BaseTask,
        vocab_size: int,
        banned: Sequence[int],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Gives logits of the ids below `vocab_size`, -inf for the `banned` ones."""
        self.task = task
        self.device = next(task.parameters()).device
        self._vocab_size = vocab_size
        self._banned = torch.tensor(banned, dtype=torch.int64, device=self.device)
        self._autocast = autocast
        self._cache: Cache
        self._capacity = 0
        self._lengths: list[int] = []
        self._padding: Tensor | None = None
        self._native: NativeSession | None = None
        self._pass_seconds: dict[int, float] = {}  # rows -> the least that compiled code took
        self._gap_seconds: dict[int, float] = {}  # rows -> the least between two of its calls
        self._ended: float | None = None

    @property
    def room(self) -> int:
        """How many tokens of each row `decode_many` may read at once.

        0: some row needs eviction, or all a prefill, as they do before anything was read.
        """
        if not self._lengths:
            return 0
        left = self._capacity - self._cache.length
        # a recurrent state cannot be rolled back over a rejected draft
        return left if self._cache.supports_ragged else min(left, 1)

    @torch.inference_mode()
    def prefill(
        self,
        windows: Sequence[list[int]],
        max_new_tokens: int,
        num_generated: Sequence[int] | None = None,
        *,
        check_logits: bool = True,
    ) -> Tensor:
        """Reads rows from their beginning into a new cache.

        A window longer than the context loses its oldest tokens, in place.

        Args:
            windows: the token ids of each row, at least one.
            max_new_tokens: how many tokens may follow in any row.
            num_generated: how many of each row's last tokens the model generated; none by default.
            check_logits: whether to raise for NaN or infinite ones.

        Returns:
            (B, V) logits of the token after each row.

        Raises:
            InputError: the model's weights give NaN or infinite logits.
        """
        # 1. what the task feeds the model: source for an encoder, tokens for the decoder
        counts = num_generated or [0] * len(windows)
        inputs = [self.task.build_inputs(*row) for row in zip(windows, counts, strict=True)]
        rows = [tokens for _, tokens in inputs]
        sources = [source for source, _ in inputs if source is not None]
        max_context = self.task.max_context
        for row in rows:
            if len(row) > max_context:
                del row[: -length_after_eviction(max_context)]
        # 2. a cache as long as the text can become                       (L, B, H, capacity, D)
        self._capacity = min(max_context, max(map(len, rows)) + max_new_tokens)
        with self._autocast():
            cache = self.task.backbone.new_cache(len(windows), self._capacity)
            # 3. encoder, then decoder; only the last position's logits are needed
            if sources:
                encoder_decoder: Any = self.task.backbone
                encoder_decoder.encode_source(*self._pad_left(sources), cache)
            self._start_native()
            logits = self._read_rows(rows, cache)  # (B, V)
        if check_logits and not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise InputError(
                "the model's weights give NaN or infinite logits: "
                "use an earlier checkpoint of the run"
            )
        return logits

    @property
    def max_steps(self) -> int:
        """How many tokens of each row `decode_steps` may draw at once; 1: it cannot be used."""
        if self._native is None or self.room < 2:
            return 1
        seconds = self._pass_seconds.get(len(self._lengths), MAX_STEPS_SECONDS / 2)
        return max(1, min(MAX_STEPS, int(MAX_STEPS_SECONDS / seconds), self.room))

    @property
    def pass_costs(self) -> PassCosts:
        """What decides whether drafts pay."""
        if self._native is None:
            return PYTORCH_COSTS
        rows, steps = len(self._lengths), self.max_steps
        own, gap = self._pass_seconds.get(rows, 1.0), self._gap_seconds.get(rows, 0.0)
        return COMPILED_COSTS._replace(undrafted_gain=(own + gap) / (own + gap / steps))

    @torch.inference_mode()
    def decode_many(self, rows: Sequence[Sequence[int]], *, last_only: bool = False) -> Tensor:
        """Reads T more tokens of each row, at most `room`: (B, T) ids -> (B, T, V) logits, or the
        (B, 1, V) after the last token alone."""
        count = len(rows[0])
        if self._native is not None:
            began = time.perf_counter()
            logits = self._read_native(rows, self._lengths, 1 if last_only else None)
            self._advance(count, began, 1)
            return logits.view(len(rows), -1, self._vocab_size)  # (B, T, V)
        with self._autocast():
            positions = self._next_positions(count)
            ids = torch.tensor(rows, device=self.device)  # (B, T)
            hidden = self.task.backbone(ids, self._cache, positions)  # (B, T, C)
            logits = self._logits(hidden[:, -1:] if last_only else hidden)
        self._lengths = [length + count for length in self._lengths]
        return logits

    def decode(self, ids: Sequence[int]) -> Tensor:
        """Reads one more token of each row: (B,) ids -> (B, V) logits."""
        return self.decode_many([[token] for token in ids])[:, 0]

    def decode_steps(
        self,
        last: Sequence[int],
        settings: Sequence[Settings],
        uniforms: Sequence[float],
        ends: Sequence[int],
    ) -> list[list[int]]:
        """Reads the last token of each row and draws the next ones, by one call of compiled code
        (multi-step decoding).

        Args:
            settings: of each row, how compiled code draws its tokens.
            uniforms: a random number for each token, (B · S) of S steps, at most `max_steps`.
            ends: tokens after which no row goes on.

        Returns:
            Up to S tokens of each row, of all as many; the last one is -1 where no logit is finite.
        """
        assert self._native is not None
        began = time.perf_counter()
        tokens = self._native.generate(last, self._cache, self._lengths, settings, uniforms, ends)
        count = len(tokens[0])
        self._advance(count, began, count)
        return tokens

    def _advance(self, count: int, began: float, passes: int) -> None:
        """Counts tokens that compiled code has read of each row, and the time of its call."""
        rows, ended = len(self._lengths), time.perf_counter()
        # the least of all times, as other processes may have delayed one
        seconds = (ended - began) / passes
        self._pass_seconds[rows] = min(seconds, self._pass_seconds.get(rows, seconds))
        if self._ended is not None:
            gap = began - self._ended
            self._gap_seconds[rows] = min(gap, self._gap_seconds.get(rows, gap))
        self._ended = ended
        self._cache.truncate(self._cache.length + count)
        self._lengths = [length + count for length in self._lengths]

    @torch.inference_mode()
    def evict_half(self, windows: Sequence[list[int]], num_generated: Sequence[int]) -> bool:
        """Evicts the oldest half of full rows; the others keep their cache.

        Positions start from 0 again in such a row, so its newest half is read anew.

        Args:
            windows, num_generated: of all rows, as for `prefill`; the last token of each has not
                been read yet.

        Returns:
            False where that is impossible, so that all rows need a new `prefill`.
        """
        if not self._lengths or not self._cache.supports_ragged or self._cache.source is not None:
            return False
        # 1. the newest half of each full row, but for the token that is read next
        full = [row for row, length in enumerate(self._lengths) if length >= self._capacity]
        rows = [self.task.build_inputs(windows[row], num_generated[row])[1] for row in full]
        length = length_after_eviction(self.task.max_context) - 1
        for row in rows:
            del row[: -length - 1]
        # 2. read into a small cache of its own, whose rows then replace the full ones
        if length and self._native is not None:
            tokens = [row[:-1] for row in rows]
            self._native.read(tokens, self._cache, full, [0] * len(full), outputs=0)
        elif length:
            with self._autocast():
                cache = self.task.backbone.new_cache(len(full), length)
                ids = torch.tensor([row[:-1] for row in rows], device=self.device)  # (F, S / 2 - 1)
                self.task.backbone(ids, cache, None)
            self._cache.copy_rows(torch.tensor(full, device=self.device), cache)
        # 3. the cache ends where its longest row does
        self._lengths = [length if row in full else n for row, n in enumerate(self._lengths)]
        self._cache.truncate(max(self._lengths))
        return True

    def rollback(self, num_tokens: Sequence[int]) -> None:
        """Forgets the last tokens that were read, so many of each row.

        Nothing happens in a recurrent model, which reads one token at a time.
        """
        if self._cache.supports_ragged:
            counts = zip(self._lengths, num_tokens, strict=True)
            self._lengths = [length - count for length, count in counts]
            self._cache.truncate(max(self._lengths))

    @torch.inference_mode()
    def reorder(self, rows: Sequence[int], *, sources_change: bool) -> None:
        """Goes on with some of the rows, in a new order; a row may occur several times.

        Args:
            rows: for each new row the old one it continues.
            sources_change: whether any row takes the place of one with another encoder source.
        """
        if not sources_change and list(rows) == list(range(len(rows))):
            return
        chosen = torch.tensor(rows, dtype=torch.int64, device=self.device)
        self._cache.reorder(chosen, sources=sources_change)
        self._lengths = [self._lengths[row] for row in rows]
        if self._cache.supports_ragged:
            self._cache.truncate(max(self._lengths))
        if self._padding is not None:
            self._padding = self._padding.index_select(0, chosen)

    def reserve(self, rows: int, capacity: int) -> bool:
        """Makes an empty cache for up to `rows` rows of `capacity` tokens, which `join` fills.

        Returns:
            False where rows of this model cannot have lengths of their own.
        """
        cache = self.task.backbone.new_cache(rows, capacity)
        if not cache.supports_ragged or cache.source is not None:
            return False
        self._cache, self._capacity, self._lengths, self._padding = cache, capacity, [], None
        cache.resize(0)
        self._start_native()
        return True

    @torch.inference_mode()
    def join(self, other: "ModelRunner") -> None:
        """Adds the rows of another runner of the same model to the reserved cache, as the last."""
        before, new = len(self._lengths), len(other._lengths)
        self._cache.resize(before + new)
        rows = torch.arange(before, before + new, device=self.device)
        self._cache.copy_rows(rows, other._cache)
        self._lengths += other._lengths
        self._cache.truncate(max(self._lengths))

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with some rows of a reserved cache, in a new order; the others' room is free."""
        if rows:
            self.reorder(rows, sources_change=True)
        else:
            self._lengths = []
            self._cache.truncate(0)
        self._cache.resize(len(rows))

    def begin(self, capacity: int) -> None:
        """An empty cache for one row, which `decode_many` reads in pieces (chunked prefill)."""
        self._cache = self.task.backbone.new_cache(1, capacity)
        self._capacity, self._lengths, self._padding = capacity, [0], None
        self._start_native()

    def _start_native(self) -> None:
        """Decides for this cache whether compiled code reads the tokens (native/)."""
        lazy: LazyDecoder | None = self.task.native
        decoder = None if lazy is None else lazy.get()
        if decoder is None:
            self._native = None
        elif self._native is None:
            self._native = NativeSession(decoder, self._vocab_size, self._banned.tolist())

    def _read_native(
        self, tokens: Sequence[Sequence[int]], starts: Sequence[int], outputs: int | None
    ) -> Tensor:
        assert self._native is not None
        return self._native.read(tokens, self._cache, range(len(tokens)), starts, outputs=outputs)

    def _read_rows(self, rows: Sequence[list[int]], cache: Cache) -> Tensor:
        """Reads rows into an empty cache: (B, V) logits of the token after each."""
        self._cache, self._padding = cache, None
        if self._native is not None:
            self._lengths = [len(row) for row in rows]
            cache.truncate(max(self._lengths))
            return self._read_native(rows, [0] * len(rows), 1)
        if not cache.supports_ragged:
            tokens, positions = self._pad_left(rows)  # (B, T)
            length = tokens.size(1)
            self._padding = None if positions is None else length - 1 - positions[:, -1:]  # (B, 1)
            self._lengths = [length] * len(rows)
            hidden = self.task.backbone(tokens, cache, positions)
            return self._logits(hidden[:, -1:])[:, 0]
        # padding on the right lies behind a row's last position, where no query attends to it
        self._lengths = [len(row) for row in rows]
        length = max(self._lengths)
        padded = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=self.device)
        hidden = self.task.backbone(padded, cache, None)  # (B, T, C)
        last = torch.tensor(self._lengths, device=self.device) - 1  # (B,)
        rows_of_batch = torch.arange(len(rows), device=self.device)
        return self._logits(hidden[rows_of_batch, last].unsqueeze(1))[:, 0]

    def _next_positions(self, count: int) -> Tensor | None:
        """(B, count) positions of the tokens that are read next; None: the same in all rows."""
        if self._padding is not None:
            return self._cache.length - self._padding
        if min(self._lengths) == self._cache.length:
            return None
        starts = torch.tensor(self._lengths, device=self.device)  # (B,)
        return starts[:, None] + torch.arange(count, device=self.device)

    def _pad_left(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor | None]:
        """(B, T) ids, padded on the left, and (B, T) positions; None where nothing is padded."""
        length = max(len(row) for row in rows)
        gaps = [length - len(row) for row in rows]
        padded = [[0] * gap + row for gap, row in zip(gaps, rows, strict=True)]
        tokens = torch.tensor(padded, device=self.device)
        if not any(gaps):
            return tokens, None
        # a negative position marks padding: nothing attends to it
        offsets = torch.tensor(gaps, device=self.device).unsqueeze(1)  # (B, 1)
        return tokens, torch.arange(length, device=self.device) - offsets

    def _logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) hidden states -> (B, T, V) logits of the token after each."""
        logits = self.task.next_logits(hidden, self._cache)[..., : self._vocab_size]
        logits.index_fill_(-1, self._banned, -torch.inf)
        # Apple's GPUs lack float64, which sampling needs
        return logits.cpu() if logits.device.type == "mps" else logits
