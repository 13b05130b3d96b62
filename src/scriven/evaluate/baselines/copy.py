"""Copies the source as its translation: what shared names, numbers and words are worth."""

from collections.abc import Iterable

from .base import FittedBaseline, Row

TASKS = ("translate",)


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Fits nothing."""
    return FittedBaseline("the source itself", lambda rows: [row["source"] for row in rows])
