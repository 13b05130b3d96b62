"""What must hold before a clock is started: the rival computes what we compute.

Each function returns what it compared, for the row, or raises `GateFailed` with a sentence.
"""

from collections.abc import Sequence
from typing import Any

SIZE = 0.01
"""Largest difference in the number of parameters, as a share."""
LEARNT = 0.02
"""Largest difference in the loss after training alike, as a share."""
DISTINCT = 12
"""Different characters that texts must have to tell anything."""
EXACT, TABLES, ROUNDED = 1.0, 0.3, 0.05
"""Share of characters that must be the same: in float32; in llama.cpp, whose GELU is a table of
16-bit numbers; in fewer bits, where one rounding changes all that follows. Another model reaches
about the inverse of the number of characters."""
SAME_GELU, OTHER_GELU = 1e-4, 2e-3
"""Largest difference of the loss of one window, in nats, with the same weights."""


class GateFailed(Exception):
    """The two are not doing the same work; the text says where they part."""


def same_size(name: str, theirs: int | None, ours: int) -> dict[str, Any]:
    """Parameters within one in a hundred; None where a program does not tell, whose weights were
    written from ours."""
    if theirs is not None and abs(theirs - ours) > SIZE * ours:
        raise GateFailed(f"{name} has {theirs:,} parameters where ours has {ours:,}")
    return {"parameters": theirs or ours}


def same_losses(
    name: str, theirs: Sequence[float], ours: Sequence[float], bound: float
) -> dict[str, Any]:
    """The loss of each held-out window with the same weights, in float32."""
    if len(theirs) != len(ours):
        raise GateFailed(f"{name} measured {len(theirs)} windows where ours measured {len(ours)}")
    far = max(abs(one - other) for one, other in zip(theirs, ours, strict=True))
    if not far <= bound:  # also where it is not a number
        raise GateFailed(
            f"{name} has other weights or another model: with the same weights the loss of a "
            f"window differs by {far:.2g} nats, and at most {bound:.2g} is allowed"
        )
    return {"loss_difference": far}


def same_learning(name: str, theirs: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """The mean held-out loss after the same number of updates on the same batches."""
    mean, base = sum(theirs) / len(theirs), sum(ours) / len(ours)
    if not abs(mean - base) <= LEARNT * base:
        raise GateFailed(
            f"{name} learns otherwise: after the same updates its loss is {mean:.4f} and ours "
            f"{base:.4f}, more than {LEARNT:.0%} apart"
        )
    return {"loss_after": mean}


def tell(texts: Sequence[str]) -> bool:
    """Whether texts have letters enough, and differ, so that another model would write others."""
    return len(set("".join(texts))) >= DISTINCT and len(set(texts)) == len(texts)


def telling(texts: Sequence[str]) -> None:
    """Refuses texts that would be the same for any model."""
    if not tell(texts):
        raise GateFailed(f"these texts tell no model from another: {texts[0][:40]!r} ...")


def same_texts(
    name: str, theirs: Sequence[str], ours: Sequence[str], least: float
) -> dict[str, Any]:
    """The likeliest continuations of some prompts: the share of characters before they part.

    Args:
        least: 1 for letter by letter.
    """
    if len(theirs) != len(ours):
        raise GateFailed(f"{name} wrote {len(theirs)} texts where ours wrote {len(ours)}")
    shares = [
        1.0 if one == other else agreement(one, other) / max(1, len(other))
        for one, other in zip(theirs, ours, strict=True)
    ]
    mean = sum(shares) / len(shares)
    if mean < least:
        raise GateFailed(
            f"{name} writes other texts: they part from ours after {mean:.0%} of their "
            f"characters, and {least:.0%} must be the same"
        )
    return {"same_text": round(mean, 4)}


def agreement(one: str, other: str) -> int:
    """Characters before two texts part."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
