"""Does the held-out text also stand in the training text? Told by its longer lines.

Memory stays bounded on any text: beyond a size, only lines whose hash falls into a share count,
and that share is the same on both sides.
"""

from .split import TRAIN

LONG_LINE = 40
"""Shorter lines repeat in any honest text (names, refrains)."""
FEWEST_LINES = 20
MUCH = 0.2
_WHOLE = 20_000_000


class LeakageCheck:
    """Counts validation lines that the training part has too.

    Args:
        characters: of the whole text; above 20 million a sample of the lines is taken.
    """

    def __init__(self, characters: int) -> None:
        self._every = max(1, characters // _WHOLE)
        self._train: set[int] = set()
        self._validation: list[int] = []

    def add(self, part: int, text: str) -> None:
        """Takes the lines of a chunk in; a line cut by the chunk's border is lost."""
        hashes = (hash(line) for line in text.split("\n") if len(line) >= LONG_LINE)
        kept = [number for number in hashes if number % self._every == 0]
        if part == TRAIN:
            self._train.update(kept)
        else:
            self._validation += kept

    def note(self) -> str | None:
        """A sentence when a good share of the validation lines was seen in training."""
        lines = len(self._validation)
        shared = sum(number in self._train for number in self._validation)
        if lines < FEWEST_LINES or shared < MUCH * lines:
            return None
        return (
            f"{shared / lines:.0%} of the longer lines held out for validation also stand in the"
            " training text: the validation loss will look better than it is"
        )
