"""Reads rows of tokens through a model and says how likely each token is to come next.

Keeps the key/value cache, in which rows of different lengths stand at positions of their own, and
makes room when a row has filled the model's context. Where a model has no such cache, shorter rows
are padded on the left. Knows token ids only.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..nn.cache import Cache
from ..tasks.base import BaseTask


def kept_when_full(context: int) -> int:
    """How many of its last tokens a row keeps when it has outgrown the context: half of it.

    These are read again from position 0, which costs one token read for each one written, however
    long the text becomes. It depends on the row alone, so a text is the same in any batch.
    """
    return context - context // 2


class ModelRunner:
    """A model with what it has read so far."""

    def __init__(
        self,
        task: BaseTask,
        vocab_size: int,
        banned: Sequence[int],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Gives logits for the ids below `vocabulary`, -inf for the `banned` ones."""
        self.task = task
        self.device = next(task.parameters()).device
        self._vocabulary = vocab_size
        self._banned = torch.tensor(banned, dtype=torch.int64, device=self.device)
        self._autocast = autocast
        self._state: Cache
        self._capacity = 0
        self._lengths: list[int] = []
        self._padding: Tensor | None = None

    @property
    def full(self) -> bool:
        """Whether the rows must be read again before another token fits."""
        return self._state.length >= self._capacity

    @property
    def room(self) -> int:
        """Tokens of each row that may be read together by `look`."""
        return self._capacity - self._state.length if self._state.supports_ragged else 1

    @torch.inference_mode()
    def read(
        self, windows: Sequence[list[int]], more: int, written: Sequence[int] | None = None
    ) -> Tensor:
        """Reads rows from their beginning, and forgets everything read before.

        A window longer than the context loses its oldest tokens, in place.

        Args:
            windows: the token ids of each row, at least one.
            more: how many tokens may follow, by `look` or `step`.
            written: how many of each row's tokens the model wrote; none by default.

        Returns:
            (rows, vocabulary) logits of the token after each row.

        Raises:
            InputError: the model's weights give numbers that are not finite.
        """
        reach = self.task.max_context
        counts = written or [0] * len(windows)
        arranged = [self.task.build_inputs(*row) for row in zip(windows, counts, strict=True)]
        texts = [text for _, text in arranged]
        for text in texts:
            if len(text) > reach:
                del text[: -kept_when_full(reach)]
        longest = max(len(text) for text in texts)
        self._capacity = min(reach, longest + more)
        sources = [source for source, _ in arranged if source is not None]
        with self._autocast():
            state = self.task.backbone.new_cache(len(windows), self._capacity)
            if sources:
                reading: Any = self.task.backbone
                reading.encode_source(*self._padded(sources), state)
            hidden = self._begin(texts, state)
            logits = self._logits(hidden)[:, 0]
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise InputError(
                "the model's weights give numbers that are not finite: "
                "use an earlier checkpoint of the run"
            )
        return logits

    @torch.inference_mode()
    def look(self, ids: Tensor) -> Tensor:
        """Reads more tokens in each row: (rows, T) ids -> (rows, T, vocabulary) logits after each.

        T is at most `room`.
        """
        with self._autocast():
            at = self._next(ids.size(1))
            found = self._logits(self.task.backbone(ids.to(self.device), self._state, at))
        self._lengths = [length + ids.size(1) for length in self._lengths]
        return found

    def step(self, ids: Tensor) -> Tensor:
        """Reads one more token in each row: (rows,) ids -> (rows, vocabulary) logits."""
        return self.look(ids[:, None])[:, 0]

    @torch.inference_mode()
    def make_room(self, windows: Sequence[list[int]], written: Sequence[int]) -> bool:
        """Has rows that are full forget their oldest half; the others keep what they have read.

        Args:
            windows, written: of all rows, as for `read`; the last token of each was not read yet.

        Returns:
            False where that cannot be, and all must be read anew.
        """
        if not self._state.supports_ragged or self._state.source is not None:
            return False
        full = [row for row, length in enumerate(self._lengths) if length >= self._capacity]
        texts = [self.task.build_inputs(windows[row], written[row])[1] for row in full]
        left = kept_when_full(self.task.max_context) - 1
        for text in texts:
            del text[: -left - 1]
        if left:
            with self._autocast():
                state = self.task.backbone.new_cache(len(full), left)
                read = torch.tensor([text[:-1] for text in texts], device=self.device)
                self.task.backbone(read, state, None)
            self._state.copy_rows(torch.tensor(full, device=self.device), state)
        self._lengths = [left if row in full else at for row, at in enumerate(self._lengths)]
        self._state.truncate(max(self._lengths))
        return True

    def take_back(self, tokens: Sequence[int]) -> None:
        """Forgets the last tokens that were read, so many of each row.

        Nothing happens in a model without slots for positions: it reads one at a time.
        """
        if self._state.supports_ragged and any(tokens):
            counts = zip(self._lengths, tokens, strict=True)
            self._lengths = [length - count for length, count in counts]
            self._state.truncate(max(self._lengths))

    @torch.inference_mode()
    def select(self, rows: Sequence[int], *, sources: bool) -> None:
        """Goes on with some of the rows, in a new order; one may come several times.

        Args:
            rows: their numbers.
            sources: whether any row takes the place of one with another source.
        """
        if not sources and list(rows) == list(range(len(rows))):
            return
        chosen = torch.tensor(rows, dtype=torch.int64, device=self.device)
        self._state.reorder(chosen, sources=sources)
        self._lengths = [self._lengths[row] for row in rows]
        if self._state.supports_ragged:
            self._state.truncate(max(self._lengths))
        if self._padding is not None:
            self._padding = self._padding.index_select(0, chosen)

    def _begin(self, texts: Sequence[list[int]], state: Cache) -> Tensor:
        """Reads rows into an empty state: (rows, 1, W) hidden states after each."""
        self._state, self._padding = state, None
        if not state.supports_ragged:
            tokens, at = self._padded(texts)
            longest = tokens.size(1)
            self._padding = None if at is None else longest - 1 - at[:, -1:]
            self._lengths = [longest] * len(texts)
            return self.task.backbone(tokens, state, at)[:, -1:]  # type: ignore[no-any-return]
        # what follows a shorter row lies beyond its position: nobody sees it
        self._lengths = [len(text) for text in texts]
        longest = max(self._lengths)
        filled = [text + [0] * (longest - len(text)) for text in texts]
        hidden = self.task.backbone(torch.tensor(filled, device=self.device), state, None)
        last = torch.tensor(self._lengths, device=self.device) - 1
        return hidden[torch.arange(len(texts), device=self.device), last].unsqueeze(1)  # type: ignore[no-any-return]

    def _next(self, count: int) -> Tensor | None:
        """(rows, count) positions of the tokens to come; None: those that follow in all rows."""
        if self._padding is not None:
            return self._state.length - self._padding
        if min(self._lengths) == self._state.length:
            return None
        starts = torch.tensor(self._lengths, device=self.device)
        return starts[:, None] + torch.arange(count, device=self.device)

    def _padded(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor | None]:
        """Ids (rows, longest), padded on the left, and their positions where any is."""
        longest = max(len(row) for row in rows)
        gaps = [longest - len(row) for row in rows]
        filled = [[0] * gap + row for gap, row in zip(gaps, rows, strict=True)]
        tokens = torch.tensor(filled, device=self.device)
        if not any(gaps):
            return tokens, None
        # a padded position is negative: nobody looks at it
        return tokens, torch.arange(longest, device=self.device) - torch.tensor(
            gaps, device=self.device
        ).unsqueeze(1)

    def _logits(self, hidden: Tensor) -> Tensor:
        """(rows, T, W) hidden states -> (rows, T, vocabulary) logits of the token after each."""
        found = self.task.next_logits(hidden, self._state)[..., : self._vocabulary]
        found.index_fill_(-1, self._banned, -torch.inf)
        # Drawing needs float64, which Apple's GPUs lack.
        return found.cpu() if found.device.type == "mps" else found
