"""Finds the baselines of a task and fits them, and what several baselines share.

A row is what a table holds, by column: `text` and `label`; `premise`, `hypothesis`, `label`;
`first`, `second`, `score` (or `label`); `context`, `choices`, `answer`; `source`, `target`.
"""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, Protocol, TypeVar

from ... import registry
from ...errors import InputError

Row = Mapping[str, Any]
"""Texts, except `score` (a number), `choices` (texts), `answer` (an index of choices, from 0)."""

Answer = str | float | int
"""A label, a score, an index of choices, or a text, as the task has it."""

Item = TypeVar("Item")


class FittedBaseline(Protocol):
    """A baseline that has seen the training rows."""

    @property
    def note(self) -> str:
        """What was chosen by fitting, in a few words for the report; may be empty."""

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        """One answer per row, in order; the true answer in a row is never read."""


def baselines_for(task: str) -> list[str]:
    """Names of the baselines for a task, such as `classify`; empty where there is none."""
    package = __package__ or ""
    return [
        name for name in registry.names(package) if task in registry.module(package, name).TASKS
    ]


def fit(name: str, rows: Iterable[Row]) -> FittedBaseline:
    """Fits the baseline of this name.

    Raises:
        InputError: no such baseline, or no rows.
    """
    fitted: FittedBaseline = registry.module(__package__ or "", name).fit(rows)
    return fitted


def reservoir_sample(items: Iterable[Item], most: int) -> list[Item]:
    """All items in their order, or `most` of them, so that memory is bounded.

    Algorithm R (Vitter 1985), always with the same draws.

    Raises:
        InputError: there are no items.
    """
    sample: list[Item] = []
    random = Random(0)
    for seen, item in enumerate(items):
        if seen < most:
            sample.append(item)
        elif (place := random.randrange(seen + 1)) < most:
            sample[place] = item
    if not sample:
        raise no_rows()
    return sample


def no_rows() -> InputError:
    """The error for a training part that is empty."""
    return InputError("there are no training rows to fit a baseline to: give at least one")
