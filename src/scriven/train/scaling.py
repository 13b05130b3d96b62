"""The one dial: a size, and what follows from it: shape, window, batch and horizon.

`scriven train` and `scriven plan` ask the same functions. They know of no text, no clock and no
machine but whether it is a GPU. docs/scaling.md says where each rule comes from.
"""

import math
import re
from dataclasses import dataclass

from ..errors import SettingError

TOKENS_PER_PARAMETER = 20
"""Of a training that spends its arithmetic best (Hoffmann et al. 2022, table 3: 19 to 26)."""
BYTES_PER_TOKEN = 4.4
"""English web text in a BPE of 30,000 to 50,000: 40 GB of OpenWebText are 9.04 G tokens."""
PASSES = 4
"""Passes through a text that teach almost as much as fresh text (Muennighoff et al. 2023)."""

CPU_TOKENS, GPU_TOKENS = 2048, 32768
"""Tokens of an update of small trainings."""
GPU_HORIZON = 14e6
"""Tokens of a whole training up to which a GPU's updates stay small."""
BATCH_GROWTH = 0.383
"""The best batch grows with this power of the tokens of a training, whatever the size of the model
(Bergsma et al. 2025)."""

SHORTEST_PIECE = 32
"""Tokens of the shortest window that teaches anything."""

WIDE = 25e6
"""Parameters in blocks from which shapes are made for a GPU's matrix units."""


@dataclass(frozen=True)
class Size:
    """A shape and what it is for."""

    layers: int
    heads: int
    d_model: int


SIZES = {
    "tiny": Size(2, 2, 64),
    "small": Size(4, 4, 128),
    "medium": Size(6, 6, 192),
    "base": Size(6, 6, 384),
    "large": Size(12, 12, 768),
}

QUICK = 120
"""Seconds on a processor below which windows of half the length learn more."""
HURRIED = 40
"""Seconds on a processor that suffice for few updates only."""
IN_A_HURRY = ((HURRIED, Size(2, 3, 96)), (90, Size(3, 4, 128)))
"""Seconds on a processor, and the shape that learns most in fewer (LOG.md)."""


def shape_of(size: str) -> Size:
    """What a person means by --size.

    Raises:
        SettingError: neither a name nor a number of parameters.
    """
    if size in SIZES:
        return SIZES[size]
    factors = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}
    try:
        wanted = float(size[:-1]) * factors[size[-1].lower()]
    except (KeyError, ValueError, IndexError) as error:
        names = ", ".join(SIZES)
        raise SettingError(f"--size {size!r} is not a size: use {names}, or 12M") from error
    if not 1e3 <= wanted <= 1e13:
        raise SettingError(f"--size {size!r}: from 1k to 10000B parameters")
    return _small(wanted) if wanted < WIDE else _wide(wanted)


def _small(wanted: float) -> Size:
    """A shape of about so many parameters in its blocks, 12 layers width^2, in fixed proportion."""
    return min(
        (
            Size(max(2, round(d_model / 64)), d_model // 32, d_model)
            for d_model in range(32, 1024, 32)
        ),
        key=lambda each: abs(12 * each.layers * each.d_model**2 - wanted),
    )


def _wide(wanted: float) -> Size:
    """The same for large models, in the proportions of GPT-3's table 2.1 (Brown et al. 2020).

    The width is a multiple of 128 and heads have 64 numbers, from a width of 2048 on 128. Width
    over layers is 64 up to a billion parameters and 128 from eight billion on; loss hardly depends
    on it (Kaplan et al. 2020, section 3.1), the speed of narrow heads and deep stacks does.
    """
    proportion = 64 * min(2.0, max(1.0, (wanted / 1e9) ** (1 / 3)))
    shapes = [(d_model, round(wanted / (12 * d_model**2))) for d_model in range(512, 65536, 128)]
    d_model, layers = min(
        ((d_model, layers) for d_model, layers in shapes if layers >= 2),
        key=lambda each: abs(math.log(each[0] / each[1] / proportion)),
    )
    return Size(layers, d_model // (64 if d_model < 2048 else 128), d_model)


def usual_context(gpu: bool, seconds: float, grows: bool, tokens: int) -> int:
    """Window length for a text of so many tokens: longer helps when there is time to learn from it.

    Args:
        gpu: whether it trains on one.
        seconds: of a budget in wall clock; infinite for another.
        grows: whether windows are short at first, which pays for twice the length.
    """
    if gpu:
        return 1024 if tokens > 20_000_000 else 256
    usual = 64 if seconds < HURRIED else 128 if seconds < QUICK else 256
    return usual * (2 if grows else 1)


def first_context(context: int) -> int | None:
    """Tokens of a window when training begins, where windows grow; None: too short to be cut."""
    return context // 4 if context >= 4 * SHORTEST_PIECE and context % 4 == 0 else None


def batch_tokens(gpu: bool, horizon: float | None, text: float) -> int:
    """Tokens of one update.

    On a processor many small updates learn fastest. On a GPU an update grows with what there is to
    learn: tokens read, where up to four passes through a text count.

    Args:
        gpu: whether it trains on one.
        horizon: tokens of the whole training; None where a budget in seconds or steps hides them.
        text: tokens of the text.
    """
    if not gpu:
        return CPU_TOKENS
    fresh = min(horizon or 0.0, PASSES * text)
    grown = GPU_TOKENS * max(1.0, fresh / GPU_HORIZON) ** BATCH_GROWTH
    return int(2 ** round(math.log2(grown)))


def rows_of(tokens: int, context: int, text: float) -> int:
    """Sequences of an update of about so many tokens; a short text has few different ones."""
    most = max(1, int(text // (context * 4)))
    return max(1, min(tokens // context, most))


def usual_horizon(parameters: float) -> float:
    """Tokens that suit so many parameters."""
    return TOKENS_PER_PARAMETER * parameters


def count_tokens(text: str) -> float:
    """`9B`, `300G`, `5M`: tokens; `40GB`, `2TB`: those of so many bytes of text.

    Raises:
        SettingError: neither.
    """
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)([kmgtb]?)(b|bytes|tokens?)?", text.strip().lower())
    factors = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
    try:
        assert found is not None
        amount = float(found[1]) * factors[found[2]]
    except (AssertionError, ValueError) as error:
        raise SettingError(f"--tokens {text!r} is no amount: use for example 9B or 40GB") from error
    if (found[3] or "").startswith("b"):
        amount /= BYTES_PER_TOKEN
    if not 1 <= amount <= 1e18:
        raise SettingError(f"--tokens {text!r}: from 1 to 1e18")
    return amount
