"""One text while it is generated: its tokens, the text they spell, and what ends it.

Knows nothing of the model or of the other texts of a batch.
"""

from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from ..errors import SettingError
from ..tokenizers.base import StreamDecoder, Tokenizer
from .prompt_lookup import PromptLookup

RANDOM_BLOCK = 64  # random numbers that are drawn at once; their values do not depend on it

FinishReason = Literal["stop", "length", "eos"]


@dataclass(frozen=True)
class GenerationChunk:
    """A piece of a streamed text."""

    text: str
    tokens: int  # tokens generated so far
    finish_reason: FinishReason | None = None  # set in the last chunk only, which may have no text
    prompt_truncated: int = 0  # tokens of the prompt that did not fit


@dataclass(frozen=True)
class GenerationResult:
    """A finished text, without its prompt."""

    text: str
    tokens: int  # tokens generated, an end-of-document token included
    seconds: float  # wall-clock time of the batch this text was generated in
    tokens_per_second: float
    finish_reason: FinishReason
    """stop (a stop string), length (max_new_tokens) or eos (the model ended the document)."""
    prompt_truncated: int  # tokens of the prompt that did not fit
    score: float | None = None  # of a beam search: log-probability / tokens ** length penalty
    others: tuple["GenerationResult", ...] = ()
    """Of a beam search: the next best texts, if several were requested."""


class Sequence:
    """One text while it is generated: its tokens, its draft, and the text they spell."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        window: list[int],
        *,
        max_new_tokens: int,
        stop: abc.Sequence[str],
        seed: int,
        stop_token_ids: abc.Collection[int],
        prompt_truncated: int = 0,
    ) -> None:
        # prompt and generated tokens that the model sees; prefill and eviction shorten it
        self.window = window
        self.num_tokens, self.remaining = 0, max_new_tokens  # generated, and still allowed
        self.finish_reason: FinishReason | None = None if max_new_tokens else "length"
        self.prompt_truncated = prompt_truncated
        self.draft: list[int] = []  # verified in the next forward pass
        self.lookup: PromptLookup | None = None  # from the first draft on
        self.text = ""
        self._stop_token_ids = stop_token_ids
        self._generator = torch.Generator().manual_seed(seed)
        self._uniforms: list[float] = []
        self._decoder = StreamDecoder(tokenizer)
        self._stops = StopFilter(stop) if stop else None

    def uniforms(self, count: int) -> list[float]:
        """The random numbers of its next tokens, from [0, 1): one for each token of the text."""
        # number i belongs to token i, whether it was drafted or not: a seed gives one text
        while len(self._uniforms) < self.num_tokens + count:
            block = torch.rand(RANDOM_BLOCK, generator=self._generator, dtype=torch.float64)
            self._uniforms += block.tolist()
        return self._uniforms[self.num_tokens : self.num_tokens + count]

    def append(self, token: int) -> str:
        """Adds a token; returns the text that is now safe to show.

        Text is held back while it could be part of a character or of a stop string.
        """
        if self.finish_reason is not None:
            return ""
        self.num_tokens, self.remaining = self.num_tokens + 1, self.remaining - 1
        self.window.append(token)
        # 1. the text of the token, as far as no stop string may begin in it
        is_eos, stops = token in self._stop_token_ids, self._stops
        shown = "" if is_eos else self._decoder.push(token)
        shown = shown if stops is None else stops.push(shown)
        # 2. at the end of the text also what was held back
        if (is_eos or not self.remaining) and not (stops and stops.hit):
            rest = self._decoder.flush()  # an unfinished character
            shown += rest if stops is None else stops.push(rest) + stops.flush()
            self.finish_reason = "eos" if is_eos else "length"
        if stops is not None and stops.hit:
            self.finish_reason = "stop"
        self.text += shown
        return shown

    def verify(self, sampled: list[int]) -> tuple[str, int]:
        """Appends sampled tokens as far as the draft before them is right (Leviathan et al. 2023).

        Args:
            sampled: K + 1 or more ids, one after the last token and one after each of the K draft
                tokens. Token i is what the model would generate only if all drafts before i were.

        Returns:
            The text that is now safe to show, and the number of appended tokens.
        """
        draft, self.draft = self.draft, []
        text, accepted = "", 0
        for token, drafted in zip(sampled, [*draft, None], strict=False):
            text += self.append(token)
            if self.lookup is not None:
                self.lookup.append(token)  # the n-grams of the text include what it generates
            accepted += 1
            if token != drafted or self.finish_reason is not None:
                break
        return text, accepted

    def result(self, seconds: float, score: float | None = None) -> GenerationResult:
        """The finished text, with the wall-clock time of its batch."""
        assert self.finish_reason is not None
        rate, cut = self.num_tokens / seconds, self.prompt_truncated
        return GenerationResult(
            self.text, self.num_tokens, seconds, rate, self.finish_reason, cut, score
        )


@dataclass
class StopFilter:
    """Lets text through until a stop string is complete; the stop string itself is left out.

    Text that could be the beginning of a stop string is held back until it is known not to be. The
    text in all does not depend on how it was cut into pieces.
    """

    stop: abc.Sequence[str]
    hit: bool = False  # whether a stop string was complete
    held_back: str = ""

    def push(self, piece: str) -> str:
        """Adds a piece of text; returns what is now safe to show."""
        if not self.stop or self.hit:
            return "" if self.hit else piece
        # 1. a complete stop string ends the text
        text = self.held_back + piece
        # the stop string that is complete first counts; of several, the one that began first
        found = [(at + len(stop), at) for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            self.hit, self.held_back = True, ""
            return text[: min(found)[1]]
        # 2. an end that may be the beginning of a stop string waits for the next piece
        longest = max(map(len, self.stop)) - 1
        ends = range(max(0, len(text) - longest), len(text))
        begins = (at for at in ends if any(stop.startswith(text[at:]) for stop in self.stop))
        cut = next(begins, len(text))
        self.held_back = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """The text that was held back, when no more comes."""
        held_back, self.held_back = self.held_back, ""
        return held_back


def check_stop_strings(stop: str | abc.Sequence[str]) -> tuple[str, ...]:
    """One stop string or several, as a tuple.

    Raises:
        SettingError: an empty one, which would stop before the first character.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in stops:
        if not isinstance(text, str) or not text:
            raise SettingError(f"--stop={text!r}: give at least one character")
    return stops


def completes_stop_string(
    tokenizer: Tokenizer, stop: abc.Sequence[str]
) -> Callable[[list[int]], bool] | None:
    """A function that tells whether the last of some tokens completes a stop string; None if there
    are no stop strings."""
    if not stop:
        return None
    longest = max(len(text.encode(errors="replace")) for text in stop)

    def is_stopped(ids: list[int]) -> bool:
        tail = tokenizer.decode(ids[-longest:])  # a token has at least one byte
        return any(text in tail for text in stop)

    return is_stopped
