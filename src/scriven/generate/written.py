"""What comes of writing: a piece of a text, or a finished one with its figures."""

from dataclasses import dataclass

from .row import FinishReason


@dataclass(frozen=True)
class GenerationChunk:
    """A piece of a streamed text."""

    text: str
    tokens: int
    """Tokens written so far."""
    finish_reason: FinishReason | None = None
    """Set in the last step only, which may have no text."""
    prompt_truncated: int = 0
    """Tokens of the prompt that did not fit."""


@dataclass(frozen=True)
class GenerationResult:
    """A finished text, without its prompt."""

    text: str
    tokens: int
    """Tokens written, an end-of-document token included."""
    seconds: float
    """Wall clock of the batch this text was written in."""
    tokens_per_second: float
    finish_reason: FinishReason
    """stop (a stop string), length (max_new_tokens) or eos (the model ended the document)."""
    prompt_truncated: int
    """Tokens of the prompt that did not fit."""
    score: float | None = None
    """Of a beam search: log-probability / tokens ** length penalty."""
    others: tuple["GenerationResult", ...] = ()
    """Of a beam search: the next best, if they were asked for."""
