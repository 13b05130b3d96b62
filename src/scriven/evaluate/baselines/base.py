"""Trivial baselines, which show what a fine-tuned model's score is worth: one baseline = one file.

A file of this folder holds
    TASKS   the tasks it can do, such as ("classify",)
    fit     (rows of the training part) -> a `FittedBaseline`, which answers other rows

or several as `BASELINES`: name -> (tasks, fit).

A row is what a table holds, by column: `text` and `label`; `premise`, `hypothesis`, `label`;
`text`, `number` and perhaps `second`; `first`, `second`, `score` (or `label`); `context`,
`choices`, `answer`; `source`, `target`; `text`, `labels`; `tokens`, `tags`; `context`, `question`,
`answers`; `query` and `documents`, or `positive` and `negative`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from ... import registry
from ...errors import InputError

Row = Mapping[str, Any]
"""Texts, except `score` (a number), `choices` (texts), `answer` (an index of choices, from 0) and
others that are lists."""

Answer = Any  # a label, a score, an index of choices, a text, ...: `value` of a Prediction

NO_ROWS = "there are no training rows to fit a baseline to: give at least one"

Item = TypeVar("Item")


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline that has seen the training rows; called with rows, it gives one answer each."""

    note: str  # what was chosen by fitting, in a few words for the report; may be empty
    answers: Callable[[Sequence[Row]], list[Answer]]  # never reads the true answer in a row

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        return self.answers(list(rows))


Fit = Callable[[Iterable[Row]], FittedBaseline]


def baselines_for(task: str) -> list[str]:
    """Names of the baselines for a task, such as `classify`; empty where there is none."""
    return sorted(name for name, (tasks, _) in known_baselines().items() if task in tasks)


def fit(name: str, rows: Iterable[Row]) -> FittedBaseline:
    """Fits the baseline of this name.

    Raises:
        InputError: no such baseline, or no rows.
    """
    known = known_baselines()
    if name not in known:
        raise InputError(f"unknown baseline {name!r}: {registry.did_you_mean(name, list(known))}")
    return known[name][1](rows)


def known_baselines() -> dict[str, tuple[Sequence[str], Fit]]:
    """Name -> (tasks, fit) of every baseline."""
    package, known = __package__ or "", dict[str, tuple[Sequence[str], Fit]]()
    for name in registry.names(package):
        module = registry.module(package, name)
        known |= getattr(module, "BASELINES", None) or {name: (module.TASKS, module.fit)}
    return known


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
        raise InputError(NO_ROWS)
    return sample
