"""Checks before any measurement: the peer computes the same as we do.

Each function returns what it compared, for the row, or raises `GateFailed` with the reason.
"""

from collections.abc import Sequence
from typing import Any

SIZE = 0.01
"""Largest relative difference in the number of parameters."""
LEARNT = 0.02
"""Largest relative difference of the loss after the same training."""
DISTINCT = 12
"""Distinct characters that texts must have to distinguish models."""
EXACT, TABLES, ROUNDED = 1.0, 0.3, 0.05
"""Fraction of characters that must be the same: in float32; in llama.cpp, whose GELU is a 16-bit
lookup table; at lower precision, where one rounding changes everything that follows. A different
model reaches about the inverse of the number of distinct characters."""
SAME_GELU, OTHER_GELU = 1e-4, 2e-3
"""Largest difference of a window's loss with the same weights, in nats."""


class GateFailed(Exception):
    """Two programs do not compute the same; the message says where they differ."""


def same_size(name: str, theirs: int | None, ours: int) -> dict[str, Any]:
    """Parameters within 1 %; None where a program does not report them, and was given ours."""
    if theirs is not None and abs(theirs - ours) > SIZE * ours:
        raise GateFailed(f"{name} has {theirs:,} parameters where ours has {ours:,}")
    return {"parameters": theirs or ours}


def same_losses(
    name: str, theirs: Sequence[float], ours: Sequence[float], bound: float
) -> dict[str, Any]:
    """The loss of each validation window with the same weights, in float32."""
    if len(theirs) != len(ours):
        raise GateFailed(f"{name} measured {len(theirs)} windows where ours measured {len(ours)}")
    far = max(abs(one - other) for one, other in zip(theirs, ours, strict=True))
    if not far <= bound:  # also if it is NaN
        raise GateFailed(
            f"{name} has other weights or another model: with the same weights the loss of a "
            f"window differs by {far:.2g} nats, and at most {bound:.2g} is allowed"
        )
    return {"loss_difference": far}


def same_learning(name: str, theirs: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """The mean validation loss after the same number of steps on the same batches."""
    mean, base = sum(theirs) / len(theirs), sum(ours) / len(ours)
    if not abs(mean - base) <= LEARNT * base:
        raise GateFailed(
            f"{name} trains differently: after the same steps its loss is {mean:.4f} and ours "
            f"{base:.4f}, more than {LEARNT:.0%} apart"
        )
    return {"loss_after": mean}


def is_distinctive(texts: Sequence[str]) -> bool:
    """Whether texts are diverse enough that another model would generate others."""
    return len(set("".join(texts))) >= DISTINCT and len(set(texts)) == len(texts)


def check_distinctive(texts: Sequence[str]) -> None:
    """Refuses texts that many models would generate."""
    if not is_distinctive(texts):
        raise GateFailed(f"these texts do not distinguish models: {texts[0][:40]!r} ...")


def same_texts(
    name: str, theirs: Sequence[str], ours: Sequence[str], least: float
) -> dict[str, Any]:
    """Greedy continuations of the same prompts: the fraction of characters before they differ.

    Args:
        least: the smallest fraction that passes; 1 for identical texts.
    """
    if len(theirs) != len(ours):
        raise GateFailed(f"{name} generated {len(theirs)} texts where ours generated {len(ours)}")
    shares = [
        1.0 if one == other else agreement(one, other) / max(1, len(other))
        for one, other in zip(theirs, ours, strict=True)
    ]
    mean = sum(shares) / len(shares)
    if mean < least:
        raise GateFailed(
            f"{name} generates other texts: they differ from ours after {mean:.0%} of their "
            f"characters, and {least:.0%} must be the same"
        )
    return {"same_text": round(mean, 4)}


def agreement(one: str, other: str) -> int:
    """Characters before two texts differ."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
