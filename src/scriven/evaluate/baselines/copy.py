"""Copies the source as its translation: what shared names, numbers and words are worth."""

from collections.abc import Iterable
from dataclasses import dataclass

from .base import Answer, Row

TASKS = ("translate",)


@dataclass(frozen=True)
class Copy:
    """Answers with the source."""

    note: str = "the source itself"

    def __call__(self, rows: Iterable[Row]) -> list[Answer]:
        return [row["source"] for row in rows]


def fit(rows: Iterable[Row]) -> Copy:
    """Fits nothing."""
    return Copy()
