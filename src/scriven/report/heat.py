"""How surprised the model was by each token of a text it never saw, as coloured text.

The classes are probabilities (nats = -ln p), in one hue whose lightness falls step by step, so
they can be told apart without colour vision; the two strongest are also underlined.
"""

import math
from collections.abc import Sequence

from ..format import decimal, percent
from .history import finite
from .markup import Markup, element, join

MOST = 1500  # tokens shown: some 100 kB of HTML
LISTED = 6
RARE = math.log(10)  # a token is listed when it had less than one chance in ten
CONTEXT = 24  # characters shown before a surprising token
# A token goes to the first class whose probability it reaches.
CLASSES = (
    (0.8, "over 80 %"),
    (0.5, "50 to 80 %"),
    (0.2, "20 to 50 %"),
    (0.05, "5 to 20 %"),
    (0.01, "1 to 5 %"),
    (0.0, "under 1 %"),
)


def level(nats: float) -> int:
    """0 (expected) to 5 (surprised); a loss that is not a number counts as surprised."""
    probability = _probability(nats)
    for index, (least, _) in enumerate(CLASSES):
        if probability >= least:
            return index
    return len(CLASSES) - 1


def heat_map(tokens: Sequence[tuple[str, float]], unit: str) -> Markup:
    """The text with its legend, a summary in words and the most surprising tokens."""
    shown = tokens[:MOST]
    known = [nats for _, nats in shown if finite(nats) is not None]
    mean = sum(known) / len(known) if known else None
    summary = (
        f"{len(shown):,} {unit}s of text that was held out, coloured by the probability the model "
        f"gave to each before it saw it. On average {decimal(mean, 2)} nats per {unit} here."
    )
    return join(
        element("p", summary),
        _legend(),
        element("p", *(_token(*pair) for pair in shown), class_="heat", lang="", dir="auto"),
        _most_surprising(shown),
    )


def _probability(nats: float) -> float:
    if math.isnan(nats):
        return 0.0
    return math.exp(-max(nats, 0.0))


def _token(text: str, nats: float) -> Markup:
    words = f"{decimal(finite(nats), 2)} nats, {percent(_probability(nats))}"
    return element("span", _visible(text), class_=f"s{level(nats)}", title=words)


def _visible(text: str) -> str:
    """A line break keeps its effect and gets a sign that can carry the colour."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "↵\n") or "∅"


def _legend() -> Markup:
    items = [
        element("li", element("span", " a ", class_=f"s{index}", aria_hidden="true"), " " + words)
        for index, (_, words) in enumerate(CLASSES)
    ]
    return element("ul", *items, class_="scale", aria_label="Probability given to the token")


def _most_surprising(tokens: Sequence[tuple[str, float]]) -> Markup:
    known = [
        index for index, (_, nats) in enumerate(tokens) if finite(nats) is not None and nats > RARE
    ]
    worst = sorted(known, key=lambda index: -tokens[index][1])[:LISTED]
    if not worst:
        return Markup("")
    rows = []
    for index in worst:
        text, nats = tokens[index]
        before = "".join(each for each, _ in tokens[max(0, index - CONTEXT) : index])[-CONTEXT:]
        cells = (
            element("td", element("code", _one_line(before)), class_="before"),
            element("td", element("code", _one_line(text))),
            element("td", decimal(nats, 2), class_="number"),
            element("td", percent(_probability(nats), 2), class_="number"),
        )
        rows.append(element("tr", *cells))
    heads = ("After", "came", "nats", "probability")
    sides = ("before", None, "number", "number")
    head = element(
        "tr",
        *(
            element("th", text, scope="col", class_=side)
            for text, side in zip(heads, sides, strict=True)
        ),
    )
    return element(
        "div",
        element(
            "table",
            element("caption", "The greatest surprises"),
            element("thead", head),
            element("tbody", *rows),
            class_="surprises",
        ),
        class_="scroll",
    )


def _one_line(text: str) -> str:
    shown = text.replace("\r\n", "\n").replace("\n", "↵").replace("\t", "⇥")
    return "␣" if shown == " " else shown
