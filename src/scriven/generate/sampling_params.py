"""How the next token is chosen: the dials a user turns, and their limits.

Knows no tensors, so a command or a server can check a request without loading torch.
"""

from dataclasses import dataclass

from ..errors import SettingError


@dataclass(frozen=True)
class SamplingParams:
    """The dials, applied in this order: repetition penalty, temperature, top-k, top-p, min-p.

    Raises:
        SettingError: a value outside its range, or not a number.
    """

    temperature: float = 1.0
    """Below 1 keeps to the likely tokens, above 1 is bolder; 0 always takes the likeliest."""
    top_k: int = 0
    """Choose among the k likeliest tokens only; 0 for all of them."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together have this probability; 1 for all of them."""
    min_p: float = 0.0
    """Leave out tokens whose probability is below this share of the likeliest one's; 0 for none."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that are already in the text less likely (CTRL, Keskar et al. 2019)."""

    def __post_init__(self) -> None:
        if not _number(self.temperature) or not 0 <= self.temperature <= 100:
            raise _refused("temperature", self.temperature, "between 0 (the likeliest) and 100")
        if not _number(self.top_k) or self.top_k != int(self.top_k) or self.top_k < 0:
            raise _refused("top-k", self.top_k, "a whole number, 0 (all tokens) or more")
        if not _number(self.top_p) or not 0 < self.top_p <= 1:
            raise _refused("top-p", self.top_p, "above 0 and at most 1 (all tokens)")
        if not _number(self.min_p) or not 0 <= self.min_p <= 1:
            raise _refused("min-p", self.min_p, "between 0 (all tokens) and 1")
        penalty = self.repetition_penalty
        if not _number(penalty) or not 0 < penalty <= 1000:
            raise _refused("repetition-penalty", penalty, "above 0 (1 is none) and at most 1000")

    @property
    def greedy(self) -> bool:
        """Whether there is nothing to draw. Temperatures below 1e-5 would only overflow."""
        return self.temperature < 1e-5 or self.top_k == 1


LARGEST_SEED = 2**62

MOST_BEAMS = 64


def check_beams(beams: object, length_penalty: float) -> None:
    """Refuses what no beam search can be asked for.

    Raises:
        SettingError: names the flag and the range.
    """
    if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= MOST_BEAMS:
        raise _refused("beams", beams, f"a whole number from 1 (greedy) to {MOST_BEAMS}")
    if not _number(length_penalty) or not -10 <= length_penalty <= 10:
        raise _refused(
            "length-penalty", length_penalty, "from -10 to 10; 0 is none, above prefers long texts"
        )


def check_whole(flag: str, value: object, largest: int) -> None:
    """Refuses what is not a whole number from 0 to `largest`.

    Raises:
        SettingError: names the flag and the range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise SettingError(f"--{flag}={value}: a whole number from 0 to {largest:,}")


def _number(value: object) -> bool:
    """A finite number; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < float("inf")  # false for NaN too


def _refused(flag: str, value: object, range_: str) -> SettingError:
    return SettingError(f"--{flag}={value}: {range_}")
