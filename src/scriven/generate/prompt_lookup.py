"""Guesses how a text goes on from what it said before, for a model to check many tokens at once.

Where the last few tokens stood before, what followed them then is the guess ("prompt lookup", in
the frame of Leviathan et al. 2023). A model reads a guess in little more than the time of one
token, and what it would have written itself is kept; so a guess changes the speed and never the
text. Knows token ids only.
"""

from collections.abc import Sequence

ORDERS = (8, 5, 3, 2)
"""Tokens that must have stood before, tried from the most."""
LONGEST = 8
"""Tokens of a guess."""
FORGETTING = 0.9
PASS, ROW, AHEAD = 40, 4.5, 3
"""Time of a pass through a model, more for each row in it, and more if rows are read ahead, in
units of the time of one token more; between 0.8 and 10.6 M parameters, 1 and 32 rows (LOG.md)."""

WORTH_IT = 1.05
"""Times as many tokens must be promised: chances are no more than estimates."""


class PromptLookup:
    """What one text has said so far, and how well that tells what it says next."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._after: list[dict[tuple[int, ...], int]] = [{} for _ in ORDERS]
        self._kept, self._lost = [1.0] * len(ORDERS), [1.0] * len(ORDERS)
        self._order, self._expected = 0, list[int]()
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """The text goes on; whether as guessed is remembered, also if nobody asked the model."""
        if self._expected:
            if self._expected.pop() == token:
                self._kept[self._order] += 1
            else:
                self._lost[self._order] += 1
                self._expected = []
        ids = self._ids
        for order, after in zip(ORDERS, self._after, strict=True):
            if len(ids) >= order:
                after[tuple(ids[-order:])] = len(ids)
        ids.append(token)

    def guess(self, most: int) -> list[int]:
        """What may come next: at most so many tokens, or none."""
        ids = self._ids
        self._expected = []
        for number, (order, after) in enumerate(zip(ORDERS, self._after, strict=True)):
            at = after.get(tuple(ids[-order:])) if len(ids) >= order else None
            if at is not None:
                # what goes round in a circle goes on so: the guess itself is looked up as well
                found: list[int] = []
                for place in range(at, at + LONGEST):
                    found.append(ids[place] if place < len(ids) else found[place - len(ids)])
                self._order, self._expected = number, found[::-1]
                self._kept[number] *= FORGETTING
                self._lost[number] *= FORGETTING
                return found[: max(0, most)]
        return []

    @property
    def chance(self) -> float:
        """That the next token of the guess is right, if those before it were."""
        kept, lost = self._kept[self._order], self._lost[self._order]
        return kept / (kept + lost)


def agree(drafts: Sequence[PromptLookup], most: int) -> list[list[int]]:
    """Guesses for texts that are written together, of the length that promises most tokens a time.

    All texts are read as far as the longest guess, so one that is rarely right costs them all.
    """
    guesses = [draft.guess(most) for draft in drafts]
    count = len(drafts)
    best, hoped = 0, float(count)
    rate = WORTH_IT * hoped / (PASS + count * ROW)
    for length in range(1, max(map(len, guesses)) + 1):
        rows = zip(drafts, guesses, strict=True)
        hoped += sum(draft.chance**length for draft, guess in rows if len(guess) >= length)
        now = hoped / (PASS + AHEAD + count * (ROW + 1 + length))
        if now > rate:
            best, rate = length, now
    return [guess[:best] for guess in guesses]
