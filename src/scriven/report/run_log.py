"""What a run folder says about itself, and its key metrics. Every value may be missing or invalid.

Reads `scriven.json`, `metrics.jsonl` and `surprise.json` (the loss of each token of a stretch of
validation text); knows nothing of HTML.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DamagedError, InputError
from ..manifest import parse_signed_json

LARGEST = 1e50  # beyond it even the difference of two values could overflow
NAME_LENGTH = 200  # characters of a run name that are shown


@dataclass(frozen=True)
class MetricPoint:
    """One line of metrics; a number that is missing, NaN or infinite is None."""

    step: int
    tokens: float | None
    seconds: float | None
    loss: float | None
    """Nats per token."""
    accuracy: float | None
    """0 to 1."""
    lr: float | None
    bits_per_byte: float | None
    tokens_per_second: float | None


@dataclass(frozen=True)
class Event:
    """A text at a step: a generated sample, or a note about the run."""

    step: int
    seconds: float | None
    text: str
    prompt: str = ""


@dataclass
class RunLog:
    """A run folder in memory; the four lists are in the order of their steps."""

    name: str
    metadata: dict[str, Any]
    """The content of scriven.json."""
    steps: list[MetricPoint] = field(default_factory=list)
    evaluations: list[MetricPoint] = field(default_factory=list)
    samples: list[Event] = field(default_factory=list)
    notes: list[Event] = field(default_factory=list)
    unreadable: int = 0
    """Lines of metrics.jsonl that are not JSON objects; a killed process may leave one."""
    token_nll: list[tuple[str, float]] = field(default_factory=list)
    """(token, nats) along a stretch of validation text."""

    def get(self, *path: str) -> Any:
        """The value at a path of keys of scriven.json, or None."""
        value: Any = self.metadata
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def number(self, *path: str) -> float | None:
        """The finite number at a path of keys, or None."""
        return finite(self.get(*path))

    def text(self, *path: str) -> str:
        """The value at a path of keys as text; empty where there is none."""
        value = self.get(*path)
        return "" if value is None else str(value)


def read_run_log(folder: Path, token_nll: Sequence[tuple[str, float]] = ()) -> RunLog:
    """Reads a run folder, finished or not.

    Args:
        folder: the run folder; metrics.jsonl and surprise.json may be missing.
        token_nll: (token, nats) pairs to use instead of those in surprise.json.

    Raises:
        InputError: the folder is not a run folder.
        DamagedError: scriven.json or surprise.json is not what Scriven writes.
    """
    record = _read_json(folder / "scriven.json")
    if record is None:
        raise InputError(f"{folder} is not a run folder: it has no scriven.json")
    if not isinstance(record, dict):
        raise DamagedError(f"{folder / 'scriven.json'} is damaged: it holds no JSON object")
    # a record changed by hand is refused rather than reported
    if "digest" in record:
        record = parse_signed_json(
            (folder / "scriven.json").read_bytes(), str(folder / "scriven.json")
        )
    name = str(record.get("name") or folder.resolve().name)
    run = RunLog(name[:NAME_LENGTH], record)
    _read_metrics(folder / "metrics.jsonl", run)
    run.token_nll = list(token_nll) or _read_token_nll(folder / "surprise.json")
    return run


def finite(value: object) -> float | None:
    """A finite number as float; None for anything else, booleans and absurd sizes included."""
    # bool is a subclass of int
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) <= LARGEST else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged, restore it from a copy: {error}") from error


def _read_metrics(path: Path, run: RunLog) -> None:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.strip() and not _add(run, line):
                run.unreadable += 1


def _add(run: RunLog, line: str) -> bool:
    """Adds one line of metrics.jsonl; False when it cannot be read."""
    try:
        event = json.loads(line)
        step = int(event["step"])
        # larger integers are not exact as floats, and no step gets there
        if not 0 <= step < 2**53:
            return False
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError):
        return False
    seconds, text = finite(event.get("seconds")), str(event.get("text") or "")
    match event.get("event"):
        case "step":
            _append(run.steps, _metric_point(step, event))
        case "evaluation":
            _append(run.evaluations, _metric_point(step, event))
        case "sample":
            sample = Event(step, seconds, text, str(event.get("prompt") or ""))
            # a run that went back to a checkpoint writes its samples anew
            while run.samples and run.samples[-1].step > step:
                run.samples.pop()
            run.samples.append(sample)
        case "note":
            run.notes.append(Event(step, seconds, text))
    return True


def _append(points: list[MetricPoint], point: MetricPoint) -> None:
    """Appends in time order: a run that went back to a checkpoint writes those steps anew."""
    while points and points[-1].step >= point.step:
        points.pop()
    points.append(point)


def _metric_point(step: int, event: dict[str, Any]) -> MetricPoint:
    names = ("tokens", "seconds", "loss", "accuracy", "lr", "bits_per_byte", "tokens_per_second")
    return MetricPoint(step, *(finite(event.get(name)) for name in names))


def _read_token_nll(path: Path) -> list[tuple[str, float]]:
    content = _read_json(path)
    if content is None:
        return []
    try:
        return [(str(token), float(nats)) for token, nats in content["tokens"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path} is damaged, delete it: no list of [token, nats]") from error


@dataclass(frozen=True)
class KeyMetrics:
    """The key metrics of a run, from its results or, while it is unfinished, from its log.

    None means: not measured (yet).
    """

    loss: float | None
    """Validation loss of the best evaluation, nats per token."""
    accuracy: float | None
    bits_per_byte: float | None
    ngram_loss: float | None
    """Loss of the n-gram model on the same split, nats per token."""
    ngram_order: int | None
    """The n of that n-gram model."""
    uniform_loss: float | None
    """Loss of guessing all tokens of the vocabulary evenly: its logarithm."""
    best_step: int | None
    steps: int
    parameters: float | None
    tokens: float | None
    seconds: float | None
    tokens_per_second: float | None
    epochs: float | None
    """How often the training text was read, on average."""
    finished: bool
    is_language_model: bool
    """Losses are per token and comparable with n-grams."""
    loss_unit: str
    """What the loss is per, for people: character, byte, word or token; hidden token, target token
    and the like where it is not of each next one."""

    @property
    def perplexity(self) -> float | None:
        """exp(loss): the number of equally likely tokens it corresponds to."""
        return None if self.loss is None or self.loss > 700 else math.exp(self.loss)

    @property
    def gain_over_ngram(self) -> float | None:
        """Fraction of the n-gram loss that the model saves; negative when it is worse."""
        if self.loss is None or not self.ngram_loss:
            return None
        return 1 - self.loss / self.ngram_loss


def best_evaluation(run: RunLog) -> MetricPoint | None:
    """The evaluation with the lowest finite loss, the first of equals."""
    measured = [point for point in run.evaluations if point.loss is not None]
    return min(measured, key=lambda point: point.loss or 0.0, default=None)


def key_metrics(run: RunLog) -> KeyMetrics:
    """Gathers the key metrics; a number in the results is preferred to one in the log."""
    best = best_evaluation(run)
    # an unfinished run has no results: the best evaluation and the last line stand in
    last = max((*run.steps, *run.evaluations), key=lambda each: each.step, default=None)
    result = run.number("results", "val_loss")
    best_step = run.number("results", "best_step") if result is not None else None
    vocab_size = run.number("tokenizer", "vocab_size")
    train_tokens = run.number("data", "train_tokens")
    ngram_order = run.number("results", "ngram_order")
    steps = run.number("results", "steps")
    tokens = _first(run, "tokens", last)
    meaning = run.text("measure") or "next token"
    kind = run.text("tokenizer", "kind")
    results = run.get("results")
    # only these losses are comparable with an n-gram model's
    is_language_model = meaning in ("next token", "target token")
    # what one token is, in the reader's words
    loss_unit = {"char": "character", "byte": "byte", "word": "word"}.get(kind, "token")
    return KeyMetrics(
        loss=result if result is not None or best is None else best.loss,
        accuracy=_first(run, "val_accuracy", best, "accuracy"),
        bits_per_byte=_first(run, "val_bits_per_byte", best, "bits_per_byte"),
        ngram_loss=run.number("results", "ngram_loss"),
        ngram_order=_whole(ngram_order),
        uniform_loss=math.log(vocab_size) if vocab_size is not None and vocab_size > 1 else None,
        best_step=_whole(best_step) if best_step is not None or best is None else best.step,
        steps=int(steps) if steps is not None else (last.step if last else 0),
        parameters=run.number("results", "parameters"),
        tokens=tokens,
        seconds=_first(run, "seconds", last),
        tokens_per_second=_first(run, "tokens_per_second", last),
        epochs=tokens / train_tokens if tokens is not None and train_tokens else None,
        finished=isinstance(results, dict) and results.get("finished", True) is True,
        is_language_model=is_language_model,
        loss_unit=loss_unit if meaning == "next token" else meaning,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _first(run: RunLog, name: str, point: MetricPoint | None, own: str = "") -> float | None:
    """A number of the results, or else of a line in the log, there called `own`."""
    result = run.number("results", name)
    return result if result is not None else finite(getattr(point, own or name, None))
