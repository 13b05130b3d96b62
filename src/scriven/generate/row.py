"""One text in the making: the tokens the model still sees, and the text that came out so far.

Knows nothing of the model or of other rows.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import torch

from ..tokenizers import StreamDecoder
from ..tokenizers.base import Tokenizer
from .stopping import StopFilter

FinishReason = Literal["stop", "length", "eos"]

BLOCK = 64
"""Random numbers that are drawn at once; they are the same in any number."""


class Row:
    """Takes one token after the other until its text is finished."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        window: list[int],
        *,
        limit: int,
        stops: Sequence[str],
        seed: int,
        ends: Collection[int] | None = None,
    ) -> None:
        """A text after the tokens `window`, of at most `limit` tokens.

        It is over with one of `ends`; by default the end-of-document token alone.
        """
        self.window = window
        """What the model sees; the reader shortens it when the context is full."""
        self.tokens = 0
        self.finish_reason: FinishReason | None = None if limit else "length"
        self._limit = limit
        self._generator = torch.Generator().manual_seed(seed)
        self._numbers: list[float] = []
        self._ends = {tokenizer.eos} if ends is None else ends
        self._decoder = StreamDecoder(tokenizer)
        self._stops = StopFilter(stops)
        self._news: list[str] = []

    @property
    def left(self) -> int:
        """How many tokens it may still take."""
        return self._limit - self.tokens

    def numbers(self, count: int) -> list[float]:
        """The random numbers of its next tokens, from [0, 1); `take` goes on to the next one."""
        while len(self._numbers) < self.tokens + count:
            more = torch.rand(BLOCK, generator=self._generator, dtype=torch.float64)
            self._numbers += more.tolist()
        return self._numbers[self.tokens : self.tokens + count]

    def take(self, token: int) -> None:
        """One more token; nothing happens once the text is finished."""
        if self.finish_reason is not None:
            return
        self.tokens += 1
        self.window.append(token)
        if token in self._ends:
            self._finish("eos")
            return
        self._add(self._decoder.push(token))
        if self.tokens == self._limit and self.finish_reason is None:
            self._finish("length")

    def news(self) -> str:
        """The text that came out since this was asked last."""
        text = "".join(self._news)
        self._news.clear()
        return text

    def _add(self, text: str) -> None:
        self._news.append(self._stops.push(text))
        if self._stops.hit:
            self.finish_reason = "stop"

    def _finish(self, reason: FinishReason) -> None:
        self._add(self._decoder.flush())  # an unfinished character; may complete a stop string
        if self.finish_reason is None:
            self._news.append(self._stops.flush())
            self.finish_reason = reason


def stops_on(tokenizer: Tokenizer, stops: Sequence[str]) -> Callable[[list[int]], bool] | None:
    """Says of the tokens of a text whether the newest completes a stop string; None for none."""
    if not stops:
        return None
    longest = max(len(stop.encode(errors="replace")) for stop in stops)

    def over(ids: list[int]) -> bool:
        tail = tokenizer.decode(ids[-longest:])  # each of them has a byte at least
        return any(stop in tail for stop in stops)

    return over
