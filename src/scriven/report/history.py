"""What a run folder says about itself, read with distrust: every value may be missing or no number.

Knows the files `scriven.json`, `metrics.jsonl` and `surprise.json`; knows nothing of HTML.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DamagedError, InputError
from ..manifest import parse_signed_json

ABSURD = 1e50
NAME = 200  # characters of a run name that are shown


@dataclass(frozen=True)
class Moment:
    """One line of measurements; a figure that is missing, NaN or infinite is None."""

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
class Saying:
    """A text at a step: a sample of the model's writing, or a note about the run."""

    step: int
    seconds: float | None
    text: str
    prompt: str = ""


@dataclass
class History:
    """A run folder in memory; the four lists are in the order of their steps."""

    name: str
    record: dict[str, Any]
    """The content of scriven.json."""
    steps: list[Moment] = field(default_factory=list)
    evaluations: list[Moment] = field(default_factory=list)
    samples: list[Saying] = field(default_factory=list)
    notes: list[Saying] = field(default_factory=list)
    unreadable: int = 0
    """Lines of metrics.jsonl that are not JSON objects; a killed process may leave one."""
    surprise: list[tuple[str, float]] = field(default_factory=list)
    """(token, nats) along a stretch of validation text."""

    def pick(self, *path: str) -> Any:
        """The value at a path of keys of scriven.json, or None."""
        value: Any = self.record
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def figure(self, *path: str) -> float | None:
        """The finite number at a path of keys, or None."""
        return finite(self.pick(*path))

    def word(self, *path: str) -> str:
        """The value at a path of keys as text; empty where there is none."""
        value = self.pick(*path)
        return "" if value is None else str(value)


def read_history(folder: Path, surprise: Sequence[tuple[str, float]] = ()) -> History:
    """Reads a run folder, finished or not.

    Args:
        folder: the run folder; metrics.jsonl and surprise.json may be missing.
        surprise: (token, nats) pairs to use instead of those in surprise.json.

    Raises:
        InputError: the folder is not a run folder.
        DamagedError: scriven.json or surprise.json is not what Scriven writes.
    """
    record = _read_json(folder / "scriven.json")
    if record is None:
        raise InputError(f"{folder} is not a run folder: it has no scriven.json")
    if not isinstance(record, dict):
        raise DamagedError(f"{folder / 'scriven.json'} is damaged: it holds no JSON object")
    if "digest" in record:
        record = parse_signed_json(
            (folder / "scriven.json").read_bytes(), str(folder / "scriven.json")
        )
    name = str(record.get("name") or folder.resolve().name)
    history = History(name[:NAME], record)
    _read_metrics(folder / "metrics.jsonl", history)
    history.surprise = list(surprise) or _read_surprise(folder / "surprise.json")
    return history


def finite(value: object) -> float | None:
    """A finite number as float; None for anything else, true and false and absurd sizes included.

    Beyond `ABSURD` even differences of two values would overflow.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) <= ABSURD else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged, restore it from a copy: {error}") from error


def _read_metrics(path: Path, history: History) -> None:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.strip() and not _add(history, line):
                history.unreadable += 1


def _add(history: History, line: str) -> bool:
    """Adds one line of metrics.jsonl; False when it cannot be read."""
    try:
        event = json.loads(line)
        step = int(event["step"])
        if not 0 <= step < 2**53:
            return False
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError):
        return False
    seconds, text = finite(event.get("seconds")), str(event.get("text") or "")
    match event.get("event"):
        case "step":
            _append(history.steps, _moment(step, event))
        case "evaluation":
            _append(history.evaluations, _moment(step, event))
        case "sample":
            sample = Saying(step, seconds, text, str(event.get("prompt") or ""))
            while history.samples and history.samples[-1].step > step:
                history.samples.pop()
            history.samples.append(sample)
        case "note":
            history.notes.append(Saying(step, seconds, text))
    return True


def _append(moments: list[Moment], moment: Moment) -> None:
    """Appends in time order: a run that went back to a checkpoint writes those steps anew."""
    while moments and moments[-1].step >= moment.step:
        moments.pop()
    moments.append(moment)


def _moment(step: int, event: dict[str, Any]) -> Moment:
    names = ("tokens", "seconds", "loss", "accuracy", "lr", "bits_per_byte", "tokens_per_second")
    return Moment(step, *(finite(event.get(name)) for name in names))


def _read_surprise(path: Path) -> list[tuple[str, float]]:
    content = _read_json(path)
    if content is None:
        return []
    try:
        return [(str(token), float(nats)) for token, nats in content["tokens"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path} is damaged, delete it: no list of [token, nats]") from error
