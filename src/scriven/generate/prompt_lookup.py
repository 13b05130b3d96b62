"""Prompt lookup: drafts for speculative decoding, copied from what the text said before.

Where the last few tokens occurred earlier, the tokens that followed them then are the draft (Saxena
2023, "Prompt Lookup Decoding"). The model scores the whole draft in one pass, which takes little
longer than one token, and what it would have generated itself is kept (Leviathan et al. 2023); so a
draft changes the speed and never the text. Knows token ids only.
"""

from collections.abc import Sequence
from typing import NamedTuple

NGRAM_SIZES = (8, 5, 3, 2)  # how many last tokens must have occurred before; the longest match wins
MAX_DRAFT = 8  # most tokens of a draft
DECAY = 0.9  # how much an n-gram size's record of right and wrong tokens fades with each draft


class PassCosts(NamedTuple):
    """Times in units of what one more token in a row takes; measured from 0.8 to 135 M parameters
    and 1 to 32 rows (LOG.md)."""

    forward: float  # of a forward pass
    row: float  # of each row in it
    draft: float  # of having any draft
    row_draft: float  # of that, in each row
    undrafted_gain: float = 1.0
    """How many times as fast as by one pass for each token they are drawn without drafts."""


PYTORCH_COSTS = PassCosts(40, 4.5, 3, 1)
COMPILED_COSTS = PassCosts(8, 2.5, 2, 0)
"""Without Python between the layers a pass is cheap, and a token costs more beside it."""
MIN_GAIN = 1.05
"""By which factor drafts must promise more tokens a second: their probabilities are estimates."""


class PromptLookup:
    """The n-grams of one text, and how often drafts from them were right."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        # for each n-gram size: where the text went on after each n-gram, last time
        self._continuations: list[dict[tuple[int, ...], int]] = [{} for _ in NGRAM_SIZES]
        self._right, self._wrong = [1.0] * len(NGRAM_SIZES), [1.0] * len(NGRAM_SIZES)
        self._size_index = 0
        self._expected = list[int]()  # what is left of the last draft, reversed
        for token in ids:
            self.append(token)

    def append(self, token: int) -> None:
        """Adds a token of the text, and counts whether the last draft had it right.

        Also drafts that were too unlikely to be tried are counted.
        """
        if self._expected:
            if self._expected.pop() == token:
                self._right[self._size_index] += 1
            else:
                self._wrong[self._size_index] += 1
                self._expected = []
        ids = self._ids
        for size, continuations in zip(NGRAM_SIZES, self._continuations, strict=True):
            if len(ids) >= size:
                continuations[tuple(ids[-size:])] = len(ids)
        ids.append(token)

    def propose(self, max_tokens: int) -> list[int]:
        """A draft of the next tokens, at most so many; empty if nothing matches."""
        ids = self._ids
        self._expected = []
        # the longest n-gram first: the more tokens agree, the likelier is what followed them
        sizes = zip(NGRAM_SIZES, self._continuations, strict=True)
        for size_index, (size, continuations) in enumerate(sizes):
            start = continuations.get(tuple(ids[-size:])) if len(ids) >= size else None
            if start is None:
                continue
            draft: list[int] = []
            for place in range(start, start + MAX_DRAFT):
                # a text that repeats itself goes on in its own draft
                draft.append(ids[place] if place < len(ids) else draft[place - len(ids)])
            self._size_index, self._expected = size_index, draft[::-1]
            # what a text did lately says more than what it did at its beginning
            self._right[size_index] *= DECAY
            self._wrong[size_index] *= DECAY
            return draft[: max(0, max_tokens)]
        return []

    @property
    def acceptance(self) -> float:
        """Estimated probability that a token of the last draft is right if those before it are."""
        right, wrong = self._right[self._size_index], self._wrong[self._size_index]
        return right / (right + wrong)


def plan_draft_lengths(
    lookups: Sequence[PromptLookup], max_tokens: int, costs: PassCosts = PYTORCH_COSTS
) -> list[list[int]]:
    """Drafts for a batch, cut to the length that promises the most tokens a second.

    All rows are read as far as the longest draft, so a draft that is rarely right costs them all.
    """
    drafts = [lookup.propose(max_tokens) for lookup in lookups]
    if not any(drafts):
        return drafts
    rows = len(lookups)
    # expected tokens of a pass: one per row, and each draft token with its chance of being reached
    best_length, expected = 0, float(rows)
    undrafted = costs.forward + rows * costs.row
    drafted = undrafted + costs.draft + rows * costs.row_draft
    best_rate = MIN_GAIN * costs.undrafted_gain * expected / undrafted
    for length in range(1, max(map(len, drafts)) + 1):
        pairs = zip(lookups, drafts, strict=True)
        expected += sum(
            lookup.acceptance**length for lookup, draft in pairs if len(draft) >= length
        )
        rate = expected / (drafted + rows * length)
        if rate > best_rate:
            best_length, best_rate = length, rate
    return [draft[:best_length] for draft in drafts]
