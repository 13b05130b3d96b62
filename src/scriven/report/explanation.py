"""What `explain` found, in sentences and tables: as text for a terminal, or as one HTML page."""

from dataclasses import dataclass
from importlib.resources import files
from textwrap import fill
from typing import Any

from ..format import decimal, integer, percent, plural, significant, table
from .page import environment

IN_TERMINAL, ON_PAGE = 12, 48
"""Tokens of a table; the last ones of a longer text."""
WIDTH = 96
"""Characters of a line in a terminal."""

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Step:
    """One step of the explanation."""

    title: str
    sentences: tuple[str, ...]
    head: tuple[str, ...] = ()
    rows: Rows = ()
    shades: tuple[tuple[int, ...], ...] = ()
    """Percentages behind the cells after the first of each row; empty: none."""


def as_text(found: dict[str, Any]) -> str:
    """The explanation for a terminal."""
    parts = []
    for number, step in enumerate(steps(found, IN_TERMINAL), 1):
        lines = [f"{number}. {step.title}", *(fill(each, WIDTH) for each in step.sentences)]
        if step.rows:
            lines += ["", *(f"  {line}" for line in table([step.head, *step.rows]).splitlines())]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def as_html(found: dict[str, Any], model: str, version: str) -> str:
    """The explanation as a page that needs nothing else; every value is escaped."""
    from markupsafe import Markup

    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    page: str = environment().get_template("explanation.html.jinja").render(
        model=model,
        text=found["text"],
        steps=steps(found, ON_PAGE),
        style=Markup(style),  # noqa: S704  # our own file
        version=version,
    )  # fmt: skip
    return page


def steps(found: dict[str, Any], longest: int) -> list[Step]:
    """The explanation step by step; tables of tokens have at most `longest` rows."""
    built = [
        _tokens(found, longest), _shapes(found), _attention(found, longest), _next(found),
        _loss(found, longest), _gradients(found), _update(found),
    ]  # fmt: skip
    return [step for step in built if step is not None]


def _tokens(found: dict[str, Any], longest: int) -> Step:
    tokens = found["tokens"]
    shown = tokens[-longest:]
    first = len(tokens) - len(shown)
    return Step(
        "Tokens",
        (
            f"The text becomes {plural(len(tokens) - 1, 'token')}, each a number of the "
            f"vocabulary; {tokens[0]['text']} stands before every text.",
            *([f"The last {len(shown)} are shown."] if first else []),
        ),
        ("position", "token", "id"),
        tuple(
            (str(place), visible(each["text"]), str(each["id"]))
            for place, each in enumerate(shown, first)
        ),
    )


def _shapes(found: dict[str, Any]) -> Step:
    rows = tuple(
        (each["name"], " × ".join(map(str, each["shape"])), integer(each["parameters"]))
        for each in found["shapes"]
    )
    return Step(
        "Forward pass",
        (
            "Each token becomes a vector, and each layer makes new vectors of them. Shapes are "
            "texts × tokens × numbers; the last has one number for each token of the vocabulary.",
        ),
        ("layer", "shape", "parameters"),
        rows,
    )


def _attention(found: dict[str, Any], longest: int) -> Step | None:
    attention = found["attention"]
    if attention is None:
        return None
    names = [visible(each["text"]) for each in found["tokens"]]
    first = max(0, len(names) - longest)
    weights = [row[first:] for row in attention["weights"][first:]]
    rows = [
        (f"{first + t} {names[first + t]}",
         *(f"{weight:.2f}" if s <= t or weight > 0 else "" for s, weight in enumerate(row)))
        for t, row in enumerate(weights)
    ]  # fmt: skip
    return Step(
        "Attention",
        (
            f"Layer {attention['layer']} of 0 to {attention['layers'] - 1}, head "
            f"{attention['head']} of 0 to {attention['heads'] - 1}. Row t says how much position "
            "t takes from each position; a row adds up to 1.",
            *([f"The last {longest} positions are shown."] if first else []),
        ),
        ("", *(str(s) for s in range(first, len(names)))),
        tuple(rows),
        tuple(tuple(round(100 * weight) for weight in row) for row in weights),
    )


def _next(found: dict[str, Any]) -> Step:
    rows = tuple(
        (
            visible(each["token"]),
            percent(each["probability"]),
            "█" * round(30 * each["probability"]),
        )
        for each in found["next"]
    )
    return Step("Next token", ("What the model expects after the text.",), ("token", "p", ""), rows)


def _loss(found: dict[str, Any], longest: int) -> Step:
    loss, all_rows = found["loss"], found["predictions"]
    shown = all_rows[-longest:]
    rows = tuple(
        (visible(each["after"]), visible(each["token"]), percent(each["probability"]),
         decimal(each["nats"]), visible(each["likeliest"]),
         percent(each["likeliest_probability"]))
        for each in shown
    )  # fmt: skip
    return Step(
        "Loss",
        (
            "At each token the model gives a probability to the token that comes next; the loss "
            "is the mean of -ln p.",
            f"{decimal(loss['nats'], 4)} nats, {decimal(loss['bits'], 4)} bits, perplexity "
            f"{decimal(loss['perplexity'])}. Giving every token the same probability would be "
            f"{decimal(loss['uniform_nats'], 4)} nats.",
            *([f"The last {longest} are shown."] if len(shown) < len(all_rows) else []),
        ),
        ("after", "token", "p", "nats", "likeliest", "p"),
        rows,
    )


def _gradients(found: dict[str, Any]) -> Step:
    gradients = found["gradients"]
    rows = tuple(
        (each["name"], significant(each["norm"]), integer(each["parameters"]))
        for each in gradients["by_layer"]
    )
    return Step(
        "Backward pass",
        (
            "The gradient says for each weight how fast the loss grows with it. The norm is the "
            f"root of the sum of squares; of all weights {significant(gradients['norm'])}.",
        ),
        ("layer", "norm of the gradient", "parameters"),
        rows,
    )


def _update(found: dict[str, Any]) -> Step:
    update = found["update"]
    change = update["loss_after"] - update["loss_before"]
    rows = tuple(
        (f"{each['weight']}[{', '.join(map(str, each['index']))}]", f"{each['before']:+.5f}",
         f"{each['gradient']:+.5f}", f"{each['after']:+.5f}")
        for each in update["largest"]
    )  # fmt: skip
    return Step(
        "One update",
        (
            f"Every weight w becomes w - {update['lr']:g} × gradient. The loss goes from "
            f"{decimal(update['loss_before'], 4)} to {decimal(update['loss_after'], 4)}: a change "
            f"of {change:+.4f}, where the gradient predicts {update['expected_change']:+.4f} "
            "(-lr × norm²; exact for small steps).",
            "The weights that change most:",
        ),
        ("weight", "before", "gradient", "after"),
        rows,
    )


def visible(text: str) -> str:
    """A token in one line, with signs for white space."""
    signs = {"\n": "↵", "\r": "↵", "\t": "⇥"}
    shown = "".join(signs.get(each, each) for each in text)
    return shown.replace(" ", "␣") or "∅"
