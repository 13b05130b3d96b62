"""How the validation loss of a run went, as its log tells it."""

import json
from collections.abc import Sequence
from pathlib import Path

from .record import LONGEST

LOG = "metrics.jsonl"

Curve = Sequence[tuple[int, float]]
"""(step, validation loss), in order."""


def read_curve(folder: Path) -> list[tuple[int, float]]:
    """The validation losses that a run has logged; a line that cannot be read is passed over."""
    found: dict[int, float] = {}
    try:
        with (folder / LOG).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if len(line) < LONGEST and '"evaluation"' in line:
                    _add(found, line)
    except OSError:
        return []
    return sorted(found.items())


def _add(found: dict[int, float], line: str) -> None:
    try:
        event = json.loads(line)
        if event["event"] == "evaluation" and abs(float(event["loss"])) < 1e6:
            found[int(event["step"])] = float(event["loss"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return
