"""What the baselines have in common.

A row is what a table holds, by name: `text` and `label`; `premise`, `hypothesis`, `label`;
`first`, `second`, `score` (or `label`); `context`, `choices`, `answer`; `source`, `target`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ... import registry
from ...errors import InputError

Row = Mapping[str, Any]
"""Texts, except `score` (a number), `choices` (texts), `answer` (a place among them, from 0)."""

Answer = str | float | int
"""A label, a score, a place among choices, or a text, as the task has it."""


class Predict(Protocol):
    """A fitted baseline."""

    @property
    def note(self) -> str:
        """What was settled by fitting, in a few words for the report; may be empty."""

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        """One answer per row, in order; what the row says of the true one is not looked at."""


def suited(task: str) -> list[str]:
    """Names of the baselines for a task, such as `classify`; empty where there is none."""
    package = __package__ or ""
    return [
        name for name in registry.names(package) if task in registry.module(package, name).TASKS
    ]


def fit(name: str, rows: Iterable[Row]) -> Predict:
    """Fits the baseline of this name.

    Raises:
        InputError: no such baseline, or no rows.
    """
    fitted: Predict = registry.module(__package__ or "", name).fit(rows)
    return fitted


def no_rows() -> InputError:
    """For a training part that is empty."""
    return InputError("there are no training rows to fit a baseline to: give at least one")
