"""Draws the pictures of the course, as SVG, from the variables of its chapters.

make_outputs.py calls it; a function here has the name of a chapter's file, as `_01_counting`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

PICTURES = Path(__file__).with_name("pictures")
LIGHT = {
    "paper": "#fff", "ink": "#1f2328", "soft": "#5b6068", "grid": "#ddd8cc", "box": "#eef3f9",
    "a": "#1f5fa8", "b": "#b86a12", "c": "#4d6b57",
}  # fmt: skip
DARK = {
    "paper": "#15171b", "ink": "#e7e5df", "soft": "#a3a7ae", "grid": "#33373e", "box": "#20262e",
    "a": "#7fb2ee", "b": "#e0a054", "c": "#9cc3a8",
}  # fmt: skip


def rules(colours: dict[str, str]) -> str:
    """CSS for one set of colours; classes a, b and c fill, la, lb and lc draw."""
    lines = [
        f"svg {{ background: {colours['paper']}; }} text {{ fill: {colours['ink']}; }}",
        f".soft {{ fill: {colours['soft']}; }} .axis {{ stroke: {colours['soft']}; }}",
        f".grid {{ stroke: {colours['grid']}; }}",
        f".box {{ fill: {colours['box']}; stroke: {colours['a']}; }}",
    ]
    for name in "abc":
        lines.append(
            f".{name} {{ fill: {colours[name]}; }} .l{name} {{ stroke: {colours[name]}; }}"
        )
    return "\n".join(lines)


STYLE = f"""
svg {{ font: 13px system-ui, sans-serif; }}
.la, .lb, .lc {{ fill: none; stroke-width: 2; }}
{rules(LIGHT)}
@media (prefers-color-scheme: dark) {{
{rules(DARK)}
}}
"""
Points = Sequence[tuple[float, float]]


def write_picture(chapter: str, names: dict[str, Any]) -> None:
    """Draws the picture of a chapter into pictures/."""
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{chapter}.svg").write_text(picture(chapter, names), encoding="utf-8")


def picture(chapter: str, names: dict[str, Any]) -> str:
    """The SVG of a chapter."""
    drawn: str = globals()["_" + chapter.replace("-", "_")](names)
    return drawn


# ---------------------------------------------------------------- parts


def svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """A whole picture; its title is read to people who cannot see it."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def label(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    """A text whose baseline is at y."""
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(text)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, opacity: float = 1) -> str:
    """A filled rectangle."""
    faint = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="{kind}"{faint}/>'


def rule(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def box(x: float, y: float, width: float, height: float, text: str) -> str:
    """A rectangle with a text in its middle."""
    frame = rect(x, y, width, height, "box")
    return frame + label(x + width / 2, y + height / 2 + 4.5, text, "middle")


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head, straight down, up or to the right."""
    down, right = (y2 > y1) - (y2 < y1), int(x2 > x1 and y1 == y2)
    tips = [(x2 - 5 * right - 4 * abs(down), y2 - 5 * down - 4 * right),
            (x2 - 5 * right + 4 * abs(down), y2 - 5 * down + 4 * right)]  # fmt: skip
    return rule(x1, y1, x2, y2) + "".join(rule(x, y, x2, y2) for x, y in tips)


def curves(
    title: str,
    lines: Sequence[tuple[str, str, Points]],
    x_name: str,
    y_name: str,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    *,
    dots: bool = False,
) -> str:
    """Curves in one frame.

    Args:
        lines: name, class (a, b or c) and points of each.
    """
    width, height, left, top, right, bottom = 640, 340, 56, 30, 24, 46
    x0, x1, y0, y1 = x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (width - left - right) * (x - x0) / (x1 - x0)
        return across, height - bottom - (height - top - bottom) * (y - y0) / (y1 - y0)

    parts = []
    for tick in y_ticks:
        y = place(x0, tick)[1]
        parts += [
            rule(left, y, width - right, y, "grid"),
            label(left - 8, y + 4, f"{tick:g}", "end", "soft"),
        ]
    for tick in x_ticks:
        x = place(tick, y0)[0]
        parts.append(label(x, height - bottom + 18, f"{tick:g}", "middle", "soft"))
    parts.append(label((left + width - right) / 2, height - 8, x_name, "middle", "soft"))
    parts.append(label(8, 18, y_name, kind="soft"))
    for number, (name, kind, points) in enumerate(lines):
        placed = [place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" class="l{kind}"/>')
        if dots:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{kind}"/>' for x, y in placed
            ]
        parts.append(label(width - right, 18 + 17 * number, name, "end", kind))
    return svg(width, height, title, parts)


def bars(title: str, rows: Sequence[tuple[str, float, str]], kind: str = "a") -> str:
    """Horizontal bars: name, length, and the text at the end of each."""
    most = max(length for _, length, _ in rows)
    parts = []
    for number, (name, length, text) in enumerate(rows):
        y = 16 + 26 * number
        size = 380 * length / most
        parts += [label(140, y + 13, name, "end"), rect(150, y, size, 18, kind)]
        parts.append(label(158 + size, y + 13, text, kind="soft"))
    return svg(640, 26 * len(rows) + 24, title, parts)


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    digits: int | None = 2,
    cell: int = 56,
    kind: str = "a",
) -> str:
    """A table whose cells are the stronger the larger their value, from 0 to the largest; negative
    values have the other colour."""
    most = max(abs(value) for row in values for value in row) or 1.0
    height = 30
    parts = []
    for place, name in enumerate(columns):
        parts.append(label(110 + cell * place + cell / 2, 22, name, "middle", "soft"))
    for number, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = 30 + height * number
        parts.append(label(100, y + 20, name, "end"))
        for place, value in enumerate(row):
            colour = kind if value >= 0 else "b"
            x = 110 + cell * place
            parts.append(rect(x, y, cell - 2, height - 2, colour, 0.75 * abs(value) / most))
            if digits is not None:
                parts.append(label(x + cell / 2 - 1, y + 19, f"{value:.{digits}f}", "middle"))
    return svg(130 + cell * len(columns), 44 + height * len(rows), title, parts)


# ---------------------------------------------------------------- one picture for each chapter


def _01_counting(names: dict[str, Any]) -> str:
    orders = range(1, len(names["seen"]) + 1)
    return curves(
        "Loss of n-gram models by their order",
        [
            ("text that was counted", "a", list(zip(orders, names["seen"], strict=True))),
            ("text that was held out", "b", list(zip(orders, names["held"], strict=True))),
        ],
        "order n: letters of a history and the next one",
        "nats per character",
        list(orders),
        [0, 1, 2, 3],
        dots=True,
    )


def _02_tokens(names: dict[str, Any]) -> str:
    lengths = [(merges, length / 1000) for merges, length in enumerate(names["lengths"])]
    return curves(
        "Length of the text in tokens after each merge",
        [("length of the story", "a", lengths)],
        "merges",
        "thousand tokens",
        [0, 10, 20, 30, 40, 50, 60],
        [0, 0.5, 1, 1.5, 2, 2.5],
    )


def _03_embeddings(names: dict[str, Any]) -> str:
    shown = [each.replace(" ", "space") for each in names["some"]]
    return heat(
        "Cosines between the vectors of some characters", shown, shown, names["cosines"].tolist(),
        cell=48,
    )  # fmt: skip


def _04_recurrent(names: dict[str, Any]) -> str:
    shares = [(k, max(-6.0, math.log10(share))) for k, share in enumerate(names["shares"])]
    return curves(
        "Part of the gradient that is left after k steps back",
        [("of the loss of the last step", "a", shares)],
        "steps back",
        "power of ten",
        [0, 5, 10, 15, 20, 25, 30, 35],
        [-6, -5, -4, -3, -2, -1, 0],
    )


def _05_attention(names: dict[str, Any]) -> str:
    return heat(
        "Attention weights: row by row, what each token takes from each",
        names["tokens"],
        names["tokens"],
        names["weights"].tolist(),
        cell=76,
    )


def _06_positions(names: dict[str, Any]) -> str:
    shown = range(0, 64, 4)
    near = names["near"]
    return heat(
        "Dot products of the vectors of positions 0, 4, 8 ... 60",
        [str(m) for m in shown],
        [str(n) for n in shown],
        [[float(near[m, n]) for n in shown] for m in shown],
        digits=None,
        cell=30,
    )


def _07_block(names: dict[str, Any]) -> str:
    def powers(sizes: Sequence[float]) -> Points:
        return [(depth, math.log10(size)) for depth, size in enumerate(sizes, 1)]

    return curves(
        "Size of the gradient by the number of layers it came through",
        [("with residuals", "a", powers(names["added"])), ("without", "b", powers(names["plain"]))],
        "layers back",
        "power of ten",
        [0, 5, 10, 15, 20, 25, 30],
        [-16, -12, -8, -4, 0, 4],
    )


def _08_loss(names: dict[str, Any]) -> str:
    points = [(p / 100, -math.log(p / 100)) for p in range(1, 101)]
    return curves(
        "Cost of a token by the probability that the model gave it",
        [("-ln p", "a", points)],
        "probability p",
        "nats",
        [0, 0.2, 0.4, 0.6, 0.8, 1],
        [0, 1, 2, 3, 4, 5],
    )


def _09_gradients(names: dict[str, Any]) -> str:
    places = ["x", "norm", "attention", "+", "norm", "feed-forward", "+", "loss"]
    sizes = [40, 66, 90, 34, 66, 110, 34, 56]
    parts, x, middles = [], 16.0, []
    for name, size in zip(places, sizes, strict=True):
        parts.append(box(x, 60, size, 34, name))
        middles.append((x, x + size))
        x += size + 20
    for (_, end), (start, _) in pairwise(middles):
        parts.append(arrow(end + 2, 70, start - 3, 70))
        parts.append(rule(end + 3, 86, start - 2, 86, "lb"))
        parts += [rule(end + 3, 86, end + 8, 82, "lb"), rule(end + 3, 86, end + 8, 90, "lb")]
    for first, last in ((0, 3), (3, 6)):  # residuals
        left, right = sum(middles[first]) / 2, sum(middles[last]) / 2
        parts += [rule(left, 60, left, 34), rule(left, 34, right, 34), arrow(right, 34, right, 58)]
        parts += [
            rule(right - 6, 94, right - 6, 120, "lb"),
            rule(left + 6, 120, right - 6, 120, "lb"),
        ]
        parts += [rule(left + 6, 120, left + 6, 96, "lb")]
        parts += [rule(left + 6, 96, left + 2, 101, "lb"), rule(left + 6, 96, left + 10, 101, "lb")]
    parts.append(label(16, 20, "forward: values", kind="soft"))
    parts.append(label(16, 146, "backward: gradients, which add up where two ways meet", kind="b"))
    return svg(round(x), 160, "Forward and backward pass through one block", parts)


def _10_updates(names: dict[str, Any]) -> str:
    kinds = zip(names["curves"].items(), "abc", strict=True)
    return curves(
        "Loss of the example over 40 steps",
        [(name, kind, list(enumerate(values))) for (name, values), kind in kinds],
        "step",
        "loss",
        [0, 5, 10, 15, 20, 25, 30, 35, 40],
        [0, 0.5, 1, 1.5, 2, 2.5],
    )


def _11_training(names: dict[str, Any]) -> str:
    curve = names["curve"]
    return curves(
        "Training loss and held-out loss of a model that overfits",
        [
            ("training text", "a", [(step, seen) for step, seen, _ in curve]),
            ("held-out text", "b", [(step, held) for step, _, held in curve]),
        ],
        "step",
        "nats per character",
        [0, 50, 100, 150, 200, 250, 300],
        [0, 1, 2, 3],
        dots=True,
    )


def _12_sampling(names: dict[str, Any]) -> str:
    shown = [names["letters"][i].replace(" ", "space") for i in names["order"]]
    rows = [f"temperature {tau:g}" for tau in names["temperatures"]]
    return heat(
        "Probabilities of the next letter by temperature", rows, shown, names["table"].tolist()
    )


def _13_encoder_decoder(names: dict[str, Any]) -> str:
    places = [str(place) for place in range(names["T"])]
    return heat(
        "Cross-attention: from each place of the target to each place of the source",
        [f"target {place}" for place in places],
        [f"source {place}" for place in places],
        names["weights"].tolist(),
        cell=72,
    )


def _14_fine_tuning(names: dict[str, Any]) -> str:
    return curves(
        "Accuracy on words that no label has touched",
        [
            ("pre-trained", "a", names["pretrained"]),
            ("from random weights", "b", names["scratch"]),
        ],
        "step of fine-tuning",
        "accuracy",
        [0, 10, 20, 30, 40],
        [0, 0.25, 0.5, 0.75, 1],
    )


def _15_scaling(names: dict[str, Any]) -> str:
    rows = [
        (f"{tokens:,} tokens", value, f"{value:.1f}")
        for tokens, value in names["intensities"].items()
    ]
    rows.append(("an H100 can do", names["balance"], f"{names['balance']:.0f}"))
    return bars("FLOPs per byte of a matrix product, by tokens at once", rows)


def _16_since_2017(names: dict[str, Any]) -> str:
    rows = [
        (f"{heads} key/value heads", size, f"{size:.2f} GB")
        for heads, size in names["cache"].items()
    ]
    return bars("KV cache of one text of 8,192 tokens", rows)
