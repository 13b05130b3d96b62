"""Curves over training steps as inline SVG that stays sharp and legible at any width.

Lines live in a 1000 x 1000 box stretched to the frame; words and dots are placed in percent, so
they keep their size. Knows numbers and names of lines, not what they mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..format import compact, integer
from .markup import Markup, element, join

BOX = 1000
MOST = 400  # points of a line; more cannot be told apart on a screen
DOTS = 120  # evaluations that still get a dot with a tooltip
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve: `look` is its CSS class, points are (step, value) in the order of the steps."""

    name: str
    look: str
    points: Sequence[Point]
    dots: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line for comparison."""

    name: str
    value: float


@dataclass(frozen=True)
class Frame:
    """The stretch of steps and values that is drawn."""

    right: float
    bottom: float
    top: float

    def place(self, point: Point) -> Point:
        """(step, value) -> (x, y) in the box; y grows downwards."""
        step, value = point
        return BOX * step / self.right, BOX * (self.top - value) / (self.top - self.bottom)

    def holds(self, value: float) -> bool:
        """Whether a value is inside the frame."""
        return self.bottom <= value <= self.top


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    show: Callable[[float], str],
    level: Level | None = None,
    mark: Point | None = None,
    cut: Literal["top", "bottom"] | None = None,
    zero: bool = False,
) -> Markup:
    """A figure with legend, or an empty one that says so.

    Args:
        title: what is drawn, and its unit.
        show: a value as text, for the legend and the tooltips.
        level: a line for comparison across the whole frame.
        mark: the point to single out (the best evaluation).
        cut: the side where the outermost 2 % of the points may leave the frame, so that the
            first steps do not press everything else flat.
        zero: the frame starts at zero.
    """
    lines = [Line(each.name, each.look, downsample(each.points), each.dots) for each in lines]
    lines = [each for each in lines if each.points]
    if not lines:
        return element("figure", _caption(title, [], None, show), element("p", "No data yet."))
    frame = fit(lines, level, cut, zero)
    inside = [_grid(frame), *(_curve(line, frame, show) for line in lines)]
    if level is not None:
        inside.append(_level(level, frame, show))
    if mark is not None and frame.holds(mark[1]):
        inside.append(_mark(mark, frame, show, level))
    name = title.split(",")[0].lower().replace(" ", "-")
    drawing = element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", describe(lines, level, show), id=f"{name}-words"),
        *inside,
        class_="plot",
        role="img",
        aria_labelledby=f"{name}-title {name}-words",
    )
    outside = [v for line in lines for _, v in line.points if not frame.holds(v)]
    note = element("p", _outside(outside, frame, show), class_="aside") if outside else ""
    return element(
        "figure",
        _caption(title, lines, level, show),
        element("div", drawing, class_="frame"),
        element("p", "steps", class_="axis", aria_hidden="true"),
        note,
    )


def downsample(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most `most` points: means over neighbouring groups of equal size (the last may be less).

    Means rather than a selection, because a selection of a noisy line shows noise.
    """
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def fit(
    lines: Sequence[Line],
    level: Level | None = None,
    cut: Literal["top", "bottom"] | None = None,
    zero: bool = False,
) -> Frame:
    """The frame around all points, with a little air, minus what `cut` allows to leave."""
    values = sorted(value for line in lines for _, value in line.points)
    spare = len(values) // 50
    top = values[-1 - spare] if cut == "top" else values[-1]
    bottom = values[spare] if cut == "bottom" else values[0]
    if level is not None:
        top, bottom = max(top, level.value), min(bottom, level.value)
    bottom = min(bottom, 0.0) if zero else bottom
    if top == bottom:
        top, bottom = top + (abs(top) or 1.0) * 0.1, bottom - (abs(bottom) or 1.0) * 0.1
    air = 0.06 * (top - bottom)
    right = max(step for line in lines for step, _ in line.points)
    return Frame(right=max(right, 1.0), bottom=bottom if zero else bottom - air, top=top + air)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) inside [low, high]; `most` at most."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10, 20):
        apart = factor * power
        first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
        if last - first + 1 <= most:
            break
    return [number * apart for number in range(first, last + 1)]


def describe(lines: Sequence[Line], level: Level | None, show: Callable[[float], str]) -> str:
    """The chart in words, for people who do not see it."""
    parts = []
    for line in lines:
        (start, first), (end, last) = line.points[0], line.points[-1]
        parts.append(
            f"{line.name}: from {show(first)} at step {integer(start)} "
            f"to {show(last)} at step {integer(end)}"
        )
    if level is not None:
        parts.append(f"{level.name}: {show(level.value)}")
    return "; ".join(parts) + "."


def _caption(
    title: str, lines: Sequence[Line], level: Level | None, show: Callable[[float], str]
) -> Markup:
    if [line.name for line in lines] == [title.lower()] and level is None:
        return element("figcaption", element("span", title, class_="name"))
    keys = [(line.look, line.name, show(line.points[-1][1])) for line in lines]
    if level is not None:
        keys.append(("level", level.name, show(level.value)))
    items = [
        element(
            "li",
            element(
                "svg",
                element("line", x1="0", x2="22", y1="5", y2="5", class_=look),
                class_="key",
                aria_hidden="true",
            ),
            name + " ",
            element("b", value),
        )
        for look, name, value in keys
    ]
    legend = element("ul", *items, class_="legend") if items else ""
    return element("figcaption", element("span", title, class_="name"), legend)


def _curve(line: Line, frame: Frame, show: Callable[[float], str]) -> Markup:
    placed = [frame.place(point) for point in line.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    box = element(
        "svg",
        element("path", d=path, class_=line.look),
        viewBox=f"0 0 {BOX} {BOX}",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
    )
    dots: list[Markup] = []
    # A path through a single point draws nothing, so a dot does.
    if len(line.points) == 1 or (line.dots and len(line.points) <= DOTS):
        for point, (x, y) in zip(line.points, placed, strict=True):
            if frame.holds(point[1]):
                words = f"step {integer(point[0])}: {show(point[1])}"
                dots.append(_dot(words, x, y, f"dot {line.look}", 2.5))
    return join(box, *dots)


def _dot(words: str, x: float, y: float, look: str, radius: float) -> Markup:
    attributes = {"cx": _percent(x), "cy": _percent(y), "r": f"{radius:g}", "class_": look}
    return element("g", element("title", words), element("circle", **attributes))


def _grid(frame: Frame) -> Markup:
    parts: list[Markup] = []
    heights = ticks(frame.bottom, frame.top)
    apart = heights[1] - heights[0] if len(heights) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(apart) + 1e-9))
    for value in heights:
        y = _percent(frame.place((0, value))[1])
        parts.append(element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        label = f"{value:.{digits}f}" if digits < 5 and abs(value) < 1e5 else f"{value:.2g}"
        parts.append(element("text", label, x="-8", y=y, dy="0.32em", class_="tick end"))
    for step in ticks(0, frame.right, 5):
        x = _percent(frame.place((step, 0))[0])
        parts.append(
            element(
                "text",
                integer(step) if frame.right < 20_000 else compact(step),
                x=x,
                y="100%",
                dy="1.5em",
                class_="tick middle",
            )
        )
    parts.append(element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="floor"))
    return join(*parts)


def _level(level: Level, frame: Frame, show: Callable[[float], str]) -> Markup:
    y = frame.place((0, level.value))[1]
    words = f"{level.name} {show(level.value)}"
    return join(
        element("line", x1="0", x2="100%", y1=_percent(y), y2=_percent(y), class_="level"),
        element("text", words, x="100%", y=_percent(y), dy="-0.5em", class_="word end"),
    )


def _mark(mark: Point, frame: Frame, show: Callable[[float], str], level: Level | None) -> Markup:
    x, y = frame.place(mark)
    # Above the dot, where no training curve runs, unless the words of the level are there.
    above = level is None or not 0 <= y - frame.place((0, level.value))[1] < 100
    side = "end" if x > BOX / 2 else "start"
    words = f"best {show(mark[1])}"
    return join(
        _dot(f"best at step {integer(mark[0])}: {show(mark[1])}", x, y, "best", 5),
        element(
            "text",
            words,
            x=_percent(x),
            y=_percent(y),
            dy="-0.9em" if above else "1.6em",
            class_=f"word {side}",
        ),
    )


def _outside(values: Sequence[float], frame: Frame, show: Callable[[float], str]) -> str:
    far = max(values, key=lambda value: abs(value - (frame.top + frame.bottom) / 2))
    side = "above the frame, up to" if far > frame.top else "below the frame, down to"
    return f"Some points lie {side} {show(far)}."


def _percent(place: float) -> str:
    return f"{100 * place / BOX:.2f}%"
