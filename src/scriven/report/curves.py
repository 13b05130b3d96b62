"""Curves over training steps as inline SVG that stays sharp and legible at any width.

Lines live in a 1000 x 1000 box stretched to the frame; text and dots are placed in percent, so
they keep their size. Knows numbers and names of lines, not what they mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..format import compact, integer
from .template import render_macro

BOX = 1000
MOST = 400  # points of a line; more cannot be told apart on a screen
DOTS = 120  # evaluations that still get a dot with a tooltip
Point = tuple[float, float]

# A value as text, for the legend and the tooltips.
Show = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """One curve: `look` is its CSS class, points are (step, value) in the order of the steps."""

    name: str
    look: str
    points: Sequence[Point]
    dots: bool = False


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal line for comparison."""

    name: str
    value: float


@dataclass(frozen=True)
class Axes:
    """The range of steps and values that is drawn."""

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


@dataclass(frozen=True)
class Dot:
    """A dot with a tooltip; places in percent."""

    words: str
    x: str
    y: str
    look: str
    radius: str


@dataclass(frozen=True)
class Curve:
    """The path of a line in the box, and its dots."""

    look: str
    path: str
    dots: list[Dot]


@dataclass(frozen=True)
class ReferenceLineView:
    """Where the line for comparison lies, and its label."""

    y: str
    words: str


@dataclass(frozen=True)
class BestView:
    """The best point with its label, which stands above or below it."""

    dot: Dot
    words: str
    dy: str
    side: Literal["start", "end"]


@dataclass(frozen=True)
class ChartView:
    """What the template draws."""

    title: str
    name: str = ""
    description: str = ""
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    """The legend: (CSS class, name, last value)."""
    y_ticks: list[tuple[str, str]] = field(default_factory=list)
    x_ticks: list[tuple[str, str]] = field(default_factory=list)
    """(place, label)"""
    curves: list[Curve] = field(default_factory=list)
    level: ReferenceLineView | None = None
    best: BestView | None = None
    outside: str = ""
    """What lies outside the frame."""


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    show: Show,
    level: ReferenceLine | None = None,
    mark: Point | None = None,
    cut: Literal["top", "bottom"] | None = None,
    zero: bool = False,
) -> str:
    """Markup of a figure with legend, or of an empty one that says so.

    Args:
        title: what is drawn, and its unit.
        show: a value as text.
        level: a line for comparison across the whole frame.
        mark: the point to single out (the best evaluation).
        cut: the side where the outermost 2 % of the points may leave the frame, so that the
            first steps do not press everything else flat.
        zero: the frame starts at zero.
    """
    lines = [Line(each.name, each.look, downsample(each.points), each.dots) for each in lines]
    lines = [each for each in lines if each.points]
    if not lines:
        return render_macro("chart", ChartView(title))
    frame = fit_axes(lines, level, cut, zero)
    outside = [v for line in lines for _, v in line.points if not frame.holds(v)]
    view = ChartView(
        title=title,
        name=title.split(",")[0].lower().replace(" ", "-"),
        description=describe_chart(lines, level, show),
        keys=_legend(title, lines, level, show),
        y_ticks=_y_ticks(frame),
        x_ticks=_x_ticks(frame),
        curves=[_curve(line, frame, show) for line in lines],
        level=None if level is None else _level(level, frame, show),
        best=_best(mark, frame, show, level) if mark and frame.holds(mark[1]) else None,
        outside=_outside(outside, frame, show) if outside else "",
    )
    return render_macro("chart", view)


def downsample(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most `most` points: means over neighbouring groups of equal size (the last may be less).

    Means rather than a selection, because a selection of a noisy line shows noise.
    """
    # rounded up
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def fit_axes(
    lines: Sequence[Line],
    level: ReferenceLine | None = None,
    cut: Literal["top", "bottom"] | None = None,
    zero: bool = False,
) -> Axes:
    """The frame around all points, with a little air, minus what `cut` allows to leave."""
    values = sorted(value for line in lines for _, value in line.points)
    # 2 % of the points on the cut side
    spare = len(values) // 50
    top = values[-1 - spare] if cut == "top" else values[-1]
    bottom = values[spare] if cut == "bottom" else values[0]
    if level is not None:
        top, bottom = max(top, level.value), min(bottom, level.value)
    bottom = min(bottom, 0.0) if zero else bottom
    # a flat line needs some height to lie in
    if top == bottom:
        top, bottom = top + (abs(top) or 1.0) * 0.1, bottom - (abs(bottom) or 1.0) * 0.1
    # points at the edge stay fully visible
    air = 0.06 * (top - bottom)
    right = max(step for line in lines for step, _ in line.points)
    return Axes(right=max(right, 1.0), bottom=bottom if zero else bottom - air, top=top + air)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) inside [low, high]; `most` at most."""
    if not high > low:
        return [low]
    # the smallest round distance that gives at most `most` ticks
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10, 20):
        apart = factor * power
        first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
        if last - first + 1 <= most:
            break
    return [number * apart for number in range(first, last + 1)]


def describe_chart(lines: Sequence[Line], level: ReferenceLine | None, show: Show) -> str:
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


def _legend(
    title: str, lines: Sequence[Line], level: ReferenceLine | None, show: Show
) -> list[tuple[str, str, str]]:
    if [line.name for line in lines] == [title.lower()] and level is None:
        return []  # the title says it
    keys = [(line.look, line.name, show(line.points[-1][1])) for line in lines]
    return keys if level is None else [*keys, ("level", level.name, show(level.value))]


def _curve(line: Line, frame: Axes, show: Show) -> Curve:
    placed = [frame.place(point) for point in line.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    dots: list[Dot] = []
    # a path through a single point draws nothing, so a dot does
    if len(line.points) == 1 or (line.dots and len(line.points) <= DOTS):
        for point, (x, y) in zip(line.points, placed, strict=True):
            if frame.holds(point[1]):
                words = f"step {integer(point[0])}: {show(point[1])}"
                dots.append(Dot(words, _percent(x), _percent(y), f"dot {line.look}", "2.5"))
    return Curve(line.look, path, dots)


def _y_ticks(frame: Axes) -> list[tuple[str, str]]:
    heights = ticks(frame.bottom, frame.top)
    apart = heights[1] - heights[0] if len(heights) > 1 else 1.0
    # as many decimals as tell two ticks apart
    digits = max(0, -math.floor(math.log10(apart) + 1e-9))
    return [
        (
            _percent(frame.place((0, value))[1]),
            f"{value:.{digits}f}" if digits < 5 and abs(value) < 1e5 else f"{value:.2g}",
        )
        for value in heights
    ]


def _x_ticks(frame: Axes) -> list[tuple[str, str]]:
    # large steps in short form, so that labels do not touch
    show = integer if frame.right < 20_000 else compact
    return [(_percent(frame.place((step, 0))[0]), show(step)) for step in ticks(0, frame.right, 5)]


def _level(level: ReferenceLine, frame: Axes, show: Show) -> ReferenceLineView:
    y = frame.place((0, level.value))[1]
    return ReferenceLineView(_percent(y), f"{level.name} {show(level.value)}")


def _best(mark: Point, frame: Axes, show: Show, level: ReferenceLine | None) -> BestView:
    x, y = frame.place(mark)
    # above the dot, where no training curve runs, unless the label of the level is there
    above = level is None or not 0 <= y - frame.place((0, level.value))[1] < 100
    words = f"best at step {integer(mark[0])}: {show(mark[1])}"
    return BestView(
        Dot(words, _percent(x), _percent(y), "best", "5"),
        f"best {show(mark[1])}",
        "-0.9em" if above else "1.6em",
        "end" if x > BOX / 2 else "start",
    )


def _outside(values: Sequence[float], frame: Axes, show: Show) -> str:
    far = max(values, key=lambda value: abs(value - (frame.top + frame.bottom) / 2))
    side = "above the frame, up to" if far > frame.top else "below the frame, down to"
    return f"Some points lie {side} {show(far)}."


def _percent(place: float) -> str:
    return f"{100 * place / BOX:.2f}%"
