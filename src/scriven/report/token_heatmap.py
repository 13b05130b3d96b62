"""The loss of each token of a text the model never saw, as coloured text.

The classes are probabilities (nats = -ln p), in one hue whose lightness falls step by step, so
they can be told apart without colour vision; the two least probable are also underlined.
"""

import math
from collections.abc import Sequence

from ..format import decimal, percent
from .run_log import finite

MOST = 1500  # tokens shown: some 100 kB of HTML
LISTED = 6
RARE = math.log(10)  # a token is listed when its probability was below one in ten
CONTEXT = 24  # characters shown before a listed token
# a token belongs to the first class whose probability it reaches
CLASSES = (
    (0.8, "over 80 %"),
    (0.5, "50 to 80 %"),
    (0.2, "20 to 50 %"),
    (0.05, "5 to 20 %"),
    (0.01, "1 to 5 %"),
    (0.0, "under 1 %"),
)

Rows = list[tuple[str, ...]]


def level(nats: float) -> int:
    """0 (expected) to 5 (improbable); NaN counts as improbable."""
    return next(i for i, (least, _) in enumerate(CLASSES) if _probability(nats) >= least)


def token_heatmap(
    token_nll: Sequence[tuple[str, float]], unit: str
) -> tuple[str, list[str], list[tuple[str, int, str]], Rows]:
    """What the macro `heatmap` draws of (token, nats) pairs.

    Returns:
        A summary, the names of the classes, (text, class, tooltip) of each token, and
        (text before, token, nats, probability) of the least probable tokens.
    """
    shown = token_nll[:MOST]
    # NaN is shown but not averaged
    known = [nats for _, nats in shown if finite(nats) is not None]
    mean = sum(known) / len(known) if known else None
    summary = (
        f"{len(shown):,} {unit}s of text that was held out, coloured by the probability the model "
        f"gave to each before it saw it. On average {decimal(mean, 2)} nats per {unit} here."
    )
    tokens = []
    for text, nats in shown:
        # a line break keeps its effect and gets a sign that can carry the colour
        visible = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "↵\n") or "∅"
        tooltip = f"{decimal(finite(nats), 2)} nats, {percent(_probability(nats))}"
        tokens.append((visible, level(nats), tooltip))
    return summary, [name for _, name in CLASSES], tokens, _least_probable(shown)


def _probability(nats: float) -> float:
    return 0.0 if math.isnan(nats) else math.exp(-max(nats, 0.0))


def _least_probable(tokens: Sequence[tuple[str, float]]) -> Rows:
    rare = [i for i, (_, nats) in enumerate(tokens) if finite(nats) is not None and nats > RARE]
    rows: Rows = []
    for index in sorted(rare, key=lambda index: -tokens[index][1])[:LISTED]:
        text, nats = tokens[index]
        before = "".join(each for each, _ in tokens[max(0, index - CONTEXT) : index])[-CONTEXT:]
        probability = percent(_probability(nats), 2)
        rows.append((_one_line(before), _one_line(text), decimal(nats, 2), probability))
    return rows


def _one_line(text: str) -> str:
    shown = text.replace("\r\n", "\n").replace("\n", "↵").replace("\t", "⇥")
    return "␣" if shown == " " else shown
