"""Prefers the longer answer, or the shorter one: what a model may learn of people's preferences
without reading an answer (Singhal et al. 2023).

Which of the two it is, the training rows decide.
"""

from collections.abc import Iterable, Sequence

from .base import Answer, FittedBaseline, Row, reservoir_sample

TASKS = ("dpo",)

MAX_ROWS = 100_000  # training rows that are counted at most, drawn from all of them


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Counts in which of the pairs the chosen answer has more characters.

    Raises:
        InputError: there are no rows.
    """
    sample = [_lengths(row) for row in reservoir_sample(rows, MAX_ROWS)]
    longer = sum(chosen > rejected for chosen, rejected in sample)
    shorter = sum(chosen < rejected for chosen, rejected in sample)
    sign = 1 if longer >= shorter else -1

    def answers(rows: Sequence[Row]) -> list[Answer]:
        pairs = map(_lengths, rows)
        return [int(sign * chosen <= sign * rejected) for chosen, rejected in pairs]

    return FittedBaseline("the longer answer" if sign > 0 else "the shorter answer", answers)


def _lengths(row: Row) -> tuple[int, int]:
    """Characters of the chosen and of the rejected answer."""
    return len(row["chosen"][-1]["content"]), len(row["rejected"][-1]["content"])
