"""Examples of many lengths in portions that fit into memory, for measuring and predicting."""

from collections.abc import Iterator, Sequence

from .examples import Example

TOKENS = 16_384
"""Tokens in one portion, padding among them."""


def portions(examples: Sequence[Example]) -> Iterator[list[int]]:
    """Numbers of examples, the shortest first; the same ones always stand together."""
    order = sorted(range(len(examples)), key=lambda number: (examples[number].length, number))
    held: list[int] = []
    for number in order:
        # the longest is the newest, and all are padded to it
        if held and (len(held) + 1) * examples[number].length > TOKENS:
            yield held
            held = []
        held.append(number)
    if held:
        yield held
