"""Rotary frequencies, and the ways to stretch them for texts longer than a model was trained on.

Dimension pair i of D rotates by position / period_i, with period_i = base^(2i/D) (Su et al. 2021,
section 3.2.2). Types and numbers have the names that they have in a config.json of transformers.
Plain Python in float64: D/2 numbers for a whole model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import SettingError

REQUIRED: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": ("factor", "original_max_position_embeddings"),
}
"""Types of scaling, and the numbers that each needs."""
OPTIONAL: dict[str, tuple[str, ...]] = {
    "yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")
}


@dataclass(frozen=True)
class RopeScaling:
    """A type of scaling and its numbers; as text: `linear:factor=2`."""

    kind: str
    numbers: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> "RopeScaling":
        """The inverse of `str`.

        Raises:
            SettingError: an unknown type, a number that is missing, unknown or not positive.
        """
        kind, _, rest = text.partition(":")
        where = f"--model.rope_scaling={text[:80]}"
        if kind not in REQUIRED:
            raise SettingError(f"{where}: known types are {', '.join(REQUIRED)}")
        numbers: dict[str, float] = {}
        for item in filter(None, rest.split(",")):
            name, _, value = item.partition("=")
            if name not in (*REQUIRED[kind], *OPTIONAL.get(kind, ())):
                raise SettingError(f"{where}: {kind} has no number called {name[:40]!r}")
            try:
                numbers[name] = float(value)
            except ValueError as error:
                raise SettingError(f"{where}: {name} is not a number") from error
            if not 0 < numbers[name] < math.inf and name != "truncate":
                raise SettingError(f"{where}: {name} must be above 0")
        missing = [name for name in REQUIRED[kind] if name not in numbers]
        if missing:
            raise SettingError(f"{where}: {kind} needs {missing[0]}, as in {kind}:{missing[0]}=8")
        return cls(kind, numbers)

    def __str__(self) -> str:
        return f"{self.kind}:" + ",".join(
            f"{name}={value!r}" for name, value in self.numbers.items()
        )


def scale_periods(
    periods: list[float], size: int, base: float, scaling: RopeScaling
) -> tuple[list[float], float]:
    """Scaled periods, and a factor of all sines and cosines.

    Args:
        periods: base^(2i/size) of the `size` / 2 pairs of dimensions: divided by 2 pi.
        size: dimensions of a head that are rotated.
        base: of the periods (`rope_theta`).
    """
    if scaling.kind == "dynamic":
        # dynamic scaling begins beyond the context length, which is never exceeded here
        return periods, 1.0
    numbers, factor = scaling.numbers, scaling.numbers["factor"]
    if scaling.kind == "linear":  # position interpolation (Chen et al. 2023)
        return [factor * period for period in periods], 1.0
    if scaling.kind == "llama3":
        return [_llama3(period, numbers) for period in periods], 1.0
    return _yarn(periods, size, base, numbers)


def _llama3(period: float, numbers: Mapping[str, float]) -> float:
    """Long wavelengths are stretched, short ones are not, between them it is interpolated (Llama
    3.1, 2024)."""
    low, high = numbers["low_freq_factor"], numbers["high_freq_factor"]
    # how often it turns in the context of pre-training
    turns = numbers["original_max_position_embeddings"] / (2 * math.pi * period)
    if turns > high:
        return period
    if turns < low:
        return numbers["factor"] * period
    share = (turns - low) / (high - low)
    return period / ((1 - share) / numbers["factor"] + share)


def _yarn(
    periods: list[float], size: int, base: float, numbers: Mapping[str, float]
) -> tuple[list[float], float]:
    """Peng et al. 2023, section 3.2 (which dimensions are stretched) and 3.4 (the temperature)."""
    factor, length = numbers["factor"], numbers["original_max_position_embeddings"]

    # the dimension that turns so many times in the context of pre-training
    def dimension(turns: float) -> float:
        return size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(numbers.get("beta_fast", 32)), dimension(numbers.get("beta_slow", 1))
    if numbers.get("truncate", 1):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    high += 0.001 if low == high else 0
    stretched = []
    for i, period in enumerate(periods):
        kept = 1 - min(max((i - low) / (high - low), 0), 1)
        stretched.append(period / (kept + (1 - kept) / factor))

    def temperature(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1

    mscale, all_dimensions = numbers.get("mscale"), numbers.get("mscale_all_dim")
    sines = temperature(1)
    if mscale and all_dimensions:
        sines = temperature(mscale) / temperature(all_dimensions)
    return stretched, numbers.get("attention_factor", sines)
