"""Stop strings in a stream of text pieces, wherever the pieces are cut.

Knows no tokens and no model.
"""

from collections.abc import Sequence

from ..errors import SettingError


class StopFilter:
    """Lets text through until a stop string is complete; the stop string itself is left out.

    Text that could be the beginning of a stop string is held back until it is known not to be.
    What comes out in all does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.hit = False
        self._held = ""

    def push(self, piece: str) -> str:
        """The text that is safe to show now that `piece` has come."""
        if not self.stops or self.hit:
            return "" if self.hit else piece
        text = self._held + piece
        # The stop that is complete first counts; of those, the one that began first.
        ends = [(at + len(stop), at) for stop in self.stops if (at := text.find(stop)) >= 0]
        if ends:
            self.hit, self._held = True, ""
            return text[: min(ends)[1]]
        held = max(_overlap(text, stop) for stop in self.stops)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def check_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """One stop string or several.

    Raises:
        SettingError: an empty one, which would stop before the first character.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in stops:
        if not isinstance(text, str) or not text:
            raise SettingError(f"--stop={text!r}: give at least one character")
    return stops


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[len(text) - length :]):
            return length
    return 0
