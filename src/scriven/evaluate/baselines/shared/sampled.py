"""So many rows of any number, each with the same chance, so that memory is bounded."""

from collections.abc import Iterable
from random import Random
from typing import TypeVar

Item = TypeVar("Item")


def sampled(items: Iterable[Item], most: int) -> list[Item]:
    """All items in their order, or `most` of them (Vitter 1985, algorithm R), always the same."""
    kept: list[Item] = []
    random = Random(0)
    for seen, item in enumerate(items):
        if seen < most:
            kept.append(item)
        elif (place := random.randrange(seen + 1)) < most:
            kept[place] = item
    return kept
