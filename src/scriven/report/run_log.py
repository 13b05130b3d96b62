"""What a run folder says about itself: its metadata, its log, its key metrics and its scores.

Reads `scriven.json`, `metrics.jsonl` and `surprise.json` (the loss of each token of a stretch of
validation text). Any value in them may be missing or invalid.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import DamagedError, InputError
from ..format import ABSENT
from ..manifest import parse_signed_json
from ..runs.finetune_results import format_score, reference_scores, score_name

LARGEST = 1e50  # beyond it even the difference of two values could overflow
NAME_LENGTH = 200  # characters of a run name that are shown
CONTROL = "without pre-training"


@dataclass(frozen=True)
class MetricPoint:
    """One line of metrics; a number that is missing, NaN or infinite is None."""

    step: int
    tokens: float | None
    seconds: float | None
    loss: float | None  # nats per token
    accuracy: float | None  # 0 to 1
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
    metadata: dict[str, Any]  # the content of scriven.json
    steps: list[MetricPoint] = field(default_factory=list)
    evaluations: list[MetricPoint] = field(default_factory=list)
    samples: list[Event] = field(default_factory=list)
    notes: list[Event] = field(default_factory=list)
    left: list[list[MetricPoint]] = field(default_factory=list)
    """Evaluations of each earlier branch, from where a longer training left it."""
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

    @property
    def finetuned(self) -> bool:
        """Whether it is a fine-tuning."""
        return isinstance(self.get("finetune"), dict)

    @cached_property
    def metrics(self) -> "KeyMetrics":
        """The key metrics, computed once."""
        return _key_metrics(self)

    @cached_property
    def score(self) -> "MainScore | None":
        """The main score of a fine-tuned run, computed once."""
        return main_score(self) if self.finetuned else None


def read_run_log(folder: Path, token_nll: Sequence[tuple[str, float]] = ()) -> RunLog:
    """Reads a run folder, finished or not.

    token_nll: (token, nats) pairs to use instead of those in surprise.json.

    Raises:
        InputError: the folder is not a run folder.
        DamagedError: scriven.json or surprise.json is not what Scriven writes.
    """
    path = folder / "scriven.json"
    metadata = _read_json(path)
    if metadata is None:
        raise InputError(f"{folder} is not a run folder: it has no scriven.json")
    if not isinstance(metadata, dict):
        raise DamagedError(f"{path} is damaged: it holds no JSON object")
    # metadata changed by hand is refused rather than reported
    if "digest" in metadata:
        metadata = parse_signed_json(path.read_bytes(), path)
    run = RunLog(str(metadata.get("name") or folder.resolve().name)[:NAME_LENGTH], metadata)
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
    return number if abs(number) <= LARGEST else None  # NaN compares as False


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
        for line in filter(str.strip, lines):
            try:
                event = json.loads(line)
                step = int(event["step"])
            except (ValueError, OverflowError, RecursionError, KeyError, TypeError):
                step = -1
            # larger integers are not exact as floats, and no step gets there
            if 0 <= step < 2**53:
                _add(run, step, event)
            else:
                run.unreadable += 1


def _add(run: RunLog, step: int, event: dict[str, Any]) -> None:
    seconds, text = finite(event.get("seconds")), str(event.get("text") or "")
    kind = event.get("event")
    if kind in ("step", "evaluation"):
        points = run.steps if kind == "step" else run.evaluations
        # a run that went back to a checkpoint logs the steps after it again: the later lines count
        while points and points[-1].step >= step:
            points.pop()
        _, *names = (each.name for each in fields(MetricPoint))
        points.append(MetricPoint(step, *(finite(event.get(name)) for name in names)))
    elif kind == "sample":
        # several samples of one step are all kept
        while run.samples and run.samples[-1].step > step:
            run.samples.pop()
        run.samples.append(Event(step, seconds, text, str(event.get("prompt") or "")))
    elif kind == "extension":
        run.left.append([point for point in run.evaluations if point.step >= step])
        for points in (run.steps, run.evaluations):
            points[:] = [point for point in points if point.step <= step]
    elif kind == "note":
        run.notes.append(Event(step, seconds, text))


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

    loss: float | None  # validation loss of the best evaluation, nats per token
    accuracy: float | None
    bits_per_byte: float | None
    ngram_loss: float | None  # loss of the n-gram model on the same split, nats per token
    ngram_order: int | None  # the n of that n-gram model
    uniform_loss: float | None
    """Loss of guessing all tokens of the vocabulary evenly: its logarithm."""
    best_step: int | None
    steps: int
    parameters: float | None
    tokens: float | None
    seconds: float | None
    tokens_per_second: float | None
    epochs: float | None  # how often the training text was read, on average
    finished: bool
    is_language_model: bool  # losses are per token and comparable with n-grams
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


def late_mean(points: Sequence[MetricPoint], name: str) -> float | None:
    """Mean of a metric over the last 5 % of the points, as single lines of a log are noisy."""
    values = [value for point in points if (value := getattr(point, name)) is not None]
    late = values[-max(1, len(values) // 20) :]
    return sum(late) / len(late) if late else None


def _key_metrics(run: RunLog) -> KeyMetrics:
    """A number in the results is preferred to one in the log."""
    # 1. an unfinished run has no results: the best evaluation and the last line stand in
    best = best_evaluation(run)
    last = max((*run.steps, *run.evaluations), key=lambda each: each.step, default=None)

    def result(name: str, point: MetricPoint | None = None, field: str = "") -> float | None:
        value = run.number("results", name)
        return value if value is not None else finite(getattr(point, field or name, None))

    loss, tokens = result("val_loss", best, "loss"), result("tokens", last)
    # 2. the best step; without its loss it would belong to another evaluation than that of the log
    measured = run.number("results", "val_loss") is not None
    best_step = result("best_step") if measured else None
    if best_step is None and best is not None:
        best_step = best.step
    # 3. what the loss is per, and whether an n-gram model's is comparable with it
    order, vocab_size = result("ngram_order"), run.number("tokenizer", "vocab_size")
    train_tokens = run.number("data", "train_tokens")
    loss_unit = run.text("measure") or "next token"
    is_language_model = loss_unit in ("next token", "target token")
    if loss_unit == "next token":  # what one token is, in the reader's words
        units = {"char": "character", "byte": "byte", "word": "word"}
        loss_unit = units.get(run.text("tokenizer", "kind"), "token")
    results = run.get("results")
    return KeyMetrics(
        loss=loss,
        accuracy=result("val_accuracy", best, "accuracy"),
        bits_per_byte=result("val_bits_per_byte", best, "bits_per_byte"),
        ngram_loss=result("ngram_loss"),
        ngram_order=None if order is None else int(order),
        uniform_loss=math.log(vocab_size) if vocab_size is not None and vocab_size > 1 else None,
        best_step=None if best_step is None else int(best_step),
        steps=int(result("steps", last, "step") or 0),
        parameters=result("parameters"),
        tokens=tokens,
        seconds=result("seconds", last),
        tokens_per_second=result("tokens_per_second", last),
        epochs=tokens / train_tokens if tokens is not None and train_tokens else None,
        finished=isinstance(results, dict) and results.get("finished", True) is True,
        is_language_model=is_language_model,
        loss_unit=loss_unit,
    )


@dataclass(frozen=True)
class MainScore:
    """The main score of a fine-tuned run, and what it is compared with."""

    name: str  # of the score, for a person
    key: str
    value: float | None
    low: float | None
    high: float | None
    references: dict[str, float]  # what baselines and the control reach, by name

    def show(self, value: float) -> str:
        """A value of this score."""
        return format_score(self.key, value)

    @property
    def interval(self) -> str:
        """`0.81 to 0.87`; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.show(self.low)} to {self.show(self.high)}"

    @property
    def text(self) -> str:
        """The value with its interval."""
        if self.value is None:
            return ABSENT
        return self.show(self.value) + (f" ({self.interval})" if self.interval else "")

    def best_baseline(self) -> tuple[str, float] | None:
        """The strongest baseline by name."""
        baselines = {name: each for name, each in self.references.items() if name != CONTROL}
        return max(baselines.items(), key=lambda pair: pair[1], default=None)


def main_score(run: RunLog, key: str | None = None) -> MainScore | None:
    """The main score, or the one of this key; None while there is none, or where it is damaged."""
    metadata = checked_metadata(run)
    scores = metadata["results"]["val_scores"]
    references = reference_scores(metadata)
    # a run that is not finished may have references and no score of its own
    known = scores or next(iter(references.values()), {})
    # the score that was asked for, the task's main score, or the first there is
    key = key or metadata["results"].get("main_score")
    key = key if isinstance(key, str) and key in known else next(iter(known), None)
    if key is None:
        return None
    return MainScore(
        score_name(key),
        key,
        **{name: scores.get(key, {}).get(name) for name in ("value", "low", "high")},
        references={name: each[key]["value"] for name, each in references.items() if key in each},
    )


def checked_metadata(run: RunLog) -> dict[str, Any]:
    """The metadata with only such scores as are numbers, so that no table has to check again."""
    results = run.get("results")
    results = dict(results) if isinstance(results, dict) else {}
    results["val_scores"] = _checked_scores(results.get("val_scores"))
    baseline = results.get("baseline") or run.get("baseline")
    results["baseline"] = {
        str(name): {**each, "scores": _checked_scores(each.get("scores"))}
        for name, each in (baseline.items() if isinstance(baseline, dict) else ())
        if isinstance(each, dict)
    }
    control = results.get("control")
    if isinstance(control, dict):
        scores = _checked_scores(control.get("val_scores"))
        results["control"] = {**control, "val_scores": scores}
    # a copy: the metadata stay what was read
    return {**run.metadata, "results": results}


def _checked_scores(scores: Any) -> dict[str, dict[str, Any]]:
    """Those with a value; an interval may be missing."""
    return {
        str(name): {
            **{key: finite(each.get(key)) for key in ("value", "low", "high")},
            "signature": str(each.get("signature") or "") or None,
        }
        for name, each in (scores.items() if isinstance(scores, dict) else ())
        if isinstance(each, dict) and finite(each.get("value")) is not None
    }


def learns_text(run: RunLog) -> bool:
    """Whether the training loss includes a language modelling loss, which decoders learn beside
    their labels."""
    # written answers have no label loss to mix with
    labelled = run.text("measure") in ("label", "score")
    weight = run.number("finetune", "lm_loss_weight")
    architecture = run.text("architecture")
    task = registry.class_attribute("scriven.models", architecture, "Model", "pretraining_task")
    return labelled and bool(weight) and task in (None, "language")
