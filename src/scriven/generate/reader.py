"""Reads rows of tokens through a model and says how likely each token is to come next.

Keeps the key/value cache, pads rows of different lengths on the left, and makes room when a row
has filled the model's context. Knows token ids only.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..nn.state import State
from ..tasks.base import Objective


def kept_when_full(context: int) -> int:
    """How many of its last tokens a row keeps when it has outgrown the context: half of it.

    These are read again from position 0, which costs one token read for each one written, however
    long the text becomes. It depends on the row alone, so a text is the same in any batch.
    """
    return context - context // 2


class Reader:
    """A model with what it has read so far."""

    def __init__(
        self,
        task: Objective,
        vocabulary: int,
        banned: Sequence[int],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Gives logits for the ids below `vocabulary`, -inf for the `banned` ones."""
        self.task = task
        self.device = next(task.parameters()).device
        self._vocabulary = vocabulary
        self._banned = torch.tensor(banned, dtype=torch.int64, device=self.device)
        self._autocast = autocast
        self._state: State
        self._capacity = 0
        self._padding: Tensor | None = None

    @property
    def full(self) -> bool:
        """Whether the rows must be read again before another token fits."""
        return self._state.length >= self._capacity

    @torch.inference_mode()
    def read(
        self, windows: Sequence[list[int]], more: int, written: Sequence[int] | None = None
    ) -> Tensor:
        """Reads rows from their beginning, and forgets everything read before.

        A window longer than the context loses its oldest tokens, in place.

        Args:
            windows: the token ids of each row, at least one.
            more: how many tokens may follow by `step`.
            written: how many of each row's tokens the model wrote; none by default.

        Returns:
            (rows, vocabulary) logits of the token after each row.

        Raises:
            InputError: the model's weights give numbers that are not finite.
        """
        reach = self.task.reach
        counts = written or [0] * len(windows)
        arranged = [self.task.arrange(*row) for row in zip(windows, counts, strict=True)]
        texts = [text for _, text in arranged]
        for text in texts:
            if len(text) > reach:
                del text[: -kept_when_full(reach)]
        tokens, at = self._padded(texts)
        longest = tokens.size(1)
        self._padding = None if at is None else longest - 1 - at[:, -1:]
        self._capacity = min(reach, longest + more)
        sources = [source for source, _ in arranged if source is not None]
        with self._autocast():
            self._state = self.task.backbone.new_state(len(windows), self._capacity)
            if sources:
                reading: Any = self.task.backbone
                reading.read(*self._padded(sources), self._state)
            logits = self._logits(tokens, at)
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise InputError(
                "the model's weights give numbers that are not finite: "
                "use an earlier checkpoint of the run"
            )
        return logits

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        """Reads one more token in each row: (rows,) ids -> (rows, vocabulary) logits."""
        at = None if self._padding is None else self._state.length - self._padding
        with self._autocast():
            return self._logits(ids.to(self.device)[:, None], at)

    @property
    def room(self) -> int:
        """Tokens that fit; none for a model that cannot take any back."""
        return self._capacity - self._state.length if self._state.rewinds else 0

    @torch.inference_mode()
    def look_ahead(self, ids: Sequence[int]) -> Tensor:
        """Reads several tokens of a single row: (len(ids), vocabulary) logits after each."""
        with self._autocast():
            return self._logits(torch.tensor([ids], device=self.device), None, last=len(ids))

    def take_back(self, tokens: int) -> None:
        """Forgets the last tokens that were read."""
        if tokens:
            self._state.rewind(tokens)

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
        self._state.select(chosen, sources=sources)
        if self._padding is not None:
            self._padding = self._padding.index_select(0, chosen)

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

    def _logits(self, tokens: Tensor, at: Tensor | None, last: int = 1) -> Tensor:
        """After the last token of each row, or after the `last` tokens of a single one."""
        hidden = self.task.backbone(tokens, self._state, at)
        found = self.task.next_logits(hidden[:, -last:], self._state)
        logits = found.flatten(0, 1)[:, : self._vocabulary]
        logits.index_fill_(1, self._banned, -torch.inf)
        # Drawing needs float64, which Apple's GPUs lack.
        return logits.cpu() if logits.device.type == "mps" else logits
