"""Guesses how a text goes on from what it said before, for a model to check many tokens at once.

Where the last few tokens stood before, what followed them then is the guess ("prompt lookup", in
the frame of Leviathan et al. 2023). A model reads a guess in about the time of one token, and what
it would have written itself is kept; so a guess changes the speed and never the text. Knows token
ids only.
"""

from collections.abc import Sequence

ORDERS = (8, 5, 3)
"""Tokens that must have stood before, tried from the most."""
LONGEST = 8
"""Tokens of a guess."""
HOPEFUL = 0.75
"""Tokens right per guess, lately, below which only the longest likeness is trusted."""
FORGETTING = 0.8


class Draft:
    """What one text has said so far."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids: list[int] = []
        self._after: list[dict[tuple[int, ...], int]] = [{} for _ in ORDERS]
        self._length, self._right = 4, 1.0
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """The text goes on."""
        ids = self.ids
        for order, after in zip(ORDERS, self._after, strict=True):
            if len(ids) >= order:
                after[tuple(ids[-order:])] = len(ids)
        ids.append(token)

    def guess(self, most: int) -> list[int]:
        """What may come next: at most so many tokens, or none."""
        ids, length = self.ids, min(most, self._length)
        trusted = ORDERS if self._right >= HOPEFUL else ORDERS[:1]
        for order, after in zip(trusted, self._after, strict=False):
            at = after.get(tuple(ids[-order:])) if len(ids) >= order else None
            if at is not None:
                # what goes round in a circle goes on so: the guess itself is looked up as well
                found: list[int] = []
                for place in range(at, at + length):
                    found.append(ids[place] if place < len(ids) else found[place - len(ids)])
                return found
        return []

    def learn(self, guessed: int, right: int) -> None:
        """How a guess went."""
        self._right = FORGETTING * self._right + (1 - FORGETTING) * right
        if right == guessed:
            self._length = min(LONGEST, 2 * self._length)
        elif right < guessed // 2:
            self._length = max(2, self._length // 2)
