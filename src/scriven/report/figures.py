"""The key figures of a run, taken from its results or, while it is unfinished, from its log.

Knows no HTML and no sentences.
"""

import math
from dataclasses import dataclass

from .history import History, Moment, finite


@dataclass(frozen=True)
class Figures:
    """None means: not measured (yet)."""

    loss: float | None
    """Validation loss of the best evaluation, nats per token."""
    accuracy: float | None
    bits_per_byte: float | None
    baseline: float | None
    """Loss of the n-gram model on the same split, nats per token."""
    order: int | None
    """The n of that n-gram model."""
    guessing: float | None
    """Loss of guessing all tokens of the vocabulary evenly: its logarithm."""
    best_step: int | None
    steps: int
    parameters: float | None
    tokens: float | None
    seconds: float | None
    tokens_per_second: float | None
    passes: float | None
    """How often the training part was read, on average."""
    finished: bool
    language: bool
    """The run learned to write: losses are per token and comparable with n-grams."""
    unit: str
    """What the loss is per, for people: character, byte, word or token; hidden token, target token
    and the like where it is not of each next one."""

    @property
    def perplexity(self) -> float | None:
        """exp(loss): among how many equally likely tokens the model hesitates."""
        return None if self.loss is None or self.loss > 700 else math.exp(self.loss)

    @property
    def gain(self) -> float | None:
        """Share of the baseline's loss that the model saves; negative when it is worse."""
        if self.loss is None or not self.baseline:
            return None
        return 1 - self.loss / self.baseline


def best_evaluation(history: History) -> Moment | None:
    """The evaluation with the lowest finite loss, the first of equals."""
    measured = [moment for moment in history.evaluations if moment.loss is not None]
    return min(measured, key=lambda moment: moment.loss or 0.0, default=None)


def measure(history: History) -> Figures:
    """Gathers the key figures; a figure in the results is preferred to one in the log."""
    best = best_evaluation(history)
    last = max((*history.steps, *history.evaluations), key=lambda each: each.step, default=None)
    result = history.figure("results", "val_loss")
    best_step = history.figure("results", "best_step") if result is not None else None
    vocab_size = history.figure("tokenizer", "vocab_size")
    train_tokens = history.figure("data", "train_tokens")
    order = history.figure("results", "ngram_order")
    steps = history.figure("results", "steps")
    tokens = _first(history, "tokens", last)
    meaning = history.word("measure") or "next token"
    kind = history.word("tokenizer", "kind")
    results = history.pick("results")
    language = meaning in ("next token", "target token")
    unit = {"char": "character", "byte": "byte", "word": "word"}.get(kind, "token")
    return Figures(
        loss=result if result is not None or best is None else best.loss,
        accuracy=_first(history, "val_accuracy", best, "accuracy"),
        bits_per_byte=_first(history, "val_bits_per_byte", best, "bits_per_byte"),
        baseline=history.figure("results", "ngram_loss"),
        order=_whole(order),
        guessing=math.log(vocab_size) if vocab_size is not None and vocab_size > 1 else None,
        best_step=_whole(best_step) if best_step is not None or best is None else best.step,
        steps=int(steps) if steps is not None else (last.step if last else 0),
        parameters=history.figure("results", "parameters"),
        tokens=tokens,
        seconds=_first(history, "seconds", last),
        tokens_per_second=_first(history, "tokens_per_second", last),
        passes=tokens / train_tokens if tokens is not None and train_tokens else None,
        finished=isinstance(results, dict) and results.get("finished", True) is True,
        language=language,
        unit=unit if meaning == "next token" else meaning,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _first(history: History, name: str, moment: Moment | None, own: str = "") -> float | None:
    """A figure of the results, or else of a line in the log."""
    found = history.figure("results", name)
    return found if found is not None else finite(getattr(moment, own or name, None))
