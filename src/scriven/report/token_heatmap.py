"""The loss of each token of a text the model never saw, as coloured text.

The classes are probabilities (nats = -ln p), in one hue whose lightness falls step by step, so
they can be told apart without colour vision; the two least probable are also underlined.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..format import decimal, percent
from .run_log import finite
from .template import render_macro

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


@dataclass(frozen=True)
class HeatmapToken:
    """A token as it is shown."""

    text: str
    level: int
    title: str


@dataclass(frozen=True)
class TokenHeatmap:
    """The text with its legend, a summary in words and the least probable tokens."""

    summary: str
    classes: list[str]
    tokens: list[HeatmapToken]
    worst: list[tuple[str, str, str, str]]
    """(text before, token, nats, probability)"""


def level(nats: float) -> int:
    """0 (expected) to 5 (improbable); NaN counts as improbable."""
    probability = _probability(nats)
    for index, (least, _) in enumerate(CLASSES):
        if probability >= least:
            return index
    return len(CLASSES) - 1


def token_heatmap(token_nll: Sequence[tuple[str, float]], unit: str) -> str:
    """Markup of the heatmap of (token, nats) pairs."""
    shown = token_nll[:MOST]
    # NaN is shown but not averaged
    known = [nats for _, nats in shown if finite(nats) is not None]
    mean = sum(known) / len(known) if known else None
    summary = (
        f"{len(shown):,} {unit}s of text that was held out, coloured by the probability the model "
        f"gave to each before it saw it. On average {decimal(mean, 2)} nats per {unit} here."
    )
    tokens = [
        HeatmapToken(
            _visible(text),
            level(nats),
            f"{decimal(finite(nats), 2)} nats, {percent(_probability(nats))}",
        )
        for text, nats in shown
    ]
    view = TokenHeatmap(summary, [words for _, words in CLASSES], tokens, _least_probable(shown))
    return render_macro("heatmap", view)


def _probability(nats: float) -> float:
    if math.isnan(nats):
        return 0.0
    return math.exp(-max(nats, 0.0))


def _visible(text: str) -> str:
    """A line break keeps its effect and gets a sign that can carry the colour."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "↵\n") or "∅"


def _least_probable(tokens: Sequence[tuple[str, float]]) -> list[tuple[str, str, str, str]]:
    # listed: the least probable first
    rare = [
        index for index, (_, nats) in enumerate(tokens) if finite(nats) is not None and nats > RARE
    ]
    rows = []
    for index in sorted(rare, key=lambda index: -tokens[index][1])[:LISTED]:
        text, nats = tokens[index]
        before = "".join(each for each, _ in tokens[max(0, index - CONTEXT) : index])[-CONTEXT:]
        probability = percent(_probability(nats), 2)
        rows.append((_one_line(before), _one_line(text), decimal(nats, 2), probability))
    return rows


def _one_line(text: str) -> str:
    shown = text.replace("\r\n", "\n").replace("\n", "↵").replace("\t", "⇥")
    return "␣" if shown == " " else shown
