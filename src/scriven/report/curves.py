"""Curves over training steps as inline SVG that stays sharp and legible at any width.

Lines live in a 1000 x 1000 box stretched to the frame; text and dots are placed in percent, so
they keep their size. Knows numbers and names of lines, not what they mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..format import compact, integer

BOX = 1000
MOST = 400  # points of a line; more cannot be told apart on a screen
DOTS = 120  # evaluations that still get a dot with a tooltip
Point = tuple[float, float]

# A value as text, for the legend and the tooltips.
Show = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """One curve; its points are (step, value) in the order of the steps."""

    name: str
    css_class: str
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
        """(step, value) -> (x, y) in the box; y grows downwards, as in SVG."""
        step, value = point
        return BOX * step / self.right, BOX * (self.top - value) / (self.top - self.bottom)

    def percent(self, point: Point) -> tuple[str, str]:
        """(step, value) -> (x, y) in percent of the frame, as SVG attributes."""
        x, y = self.place(point)
        return f"{100 * x / BOX:.2f}%", f"{100 * y / BOX:.2f}%"

    def contains(self, value: float) -> bool:
        """Whether a value is inside the frame."""
        return self.bottom <= value <= self.top


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    show: Show,
    level: ReferenceLine | None = None,
    mark: Point | None = None,
    cut: Literal["top", "bottom"] | None = None,
    zero: bool = False,
) -> dict[str, Any]:
    """What the macro `chart` draws: a figure with legend, or an empty one that says so.

    Args:
        title: what is drawn, and its unit.
        show: a value as text.
        level: a line for comparison across the whole frame.
        mark: the point to single out (the best evaluation).
        cut: the side where the outermost 2 % of the points may leave the frame, so that the
            first steps do not press everything else flat.
        zero: the frame starts at zero.
    """
    lines = [replace(line, points=downsample(line.points)) for line in lines if line.points]
    if not lines:
        return {"title": title}
    axes = fit_axes(lines, level, cut, zero)
    # 1. the legend with the last values, unless the title already says it
    legend = [(line.css_class, line.name, show(line.points[-1][1])) for line in lines]
    if level is not None:
        legend.append(("level", level.name, show(level.value)))
    elif [line.name for line in lines] == [title.lower()]:
        legend = []
    # 2. what lies outside the frame is said below it
    outside = ""
    if hidden := [v for line in lines for _, v in line.points if not axes.contains(v)]:
        far = max(hidden, key=lambda value: abs(value - (axes.top + axes.bottom) / 2))
        side = "above the frame, up to" if far > axes.top else "below the frame, down to"
        outside = f"Some points lie {side} {show(far)}."
    # 3. the drawing; large steps are labelled in short form, so that labels do not touch
    label = integer if axes.right < 20_000 else compact
    return {
        "title": title,
        "id": title.split(",")[0].lower().replace(" ", "-"),
        "description": _describe(lines, level, show),
        "legend": legend,
        "y_ticks": _y_ticks(axes),
        "x_ticks": [(axes.percent((x, 0))[0], label(x)) for x in ticks(0, axes.right, 5)],
        "curves": [_curve(line, axes, show) for line in lines],
        "level": level and (axes.percent((0, level.value))[1], f"{level.name} {show(level.value)}"),
        "best": _best(mark, axes, show, level) if mark and axes.contains(mark[1]) else None,
        "outside": outside,
    }


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


def _y_ticks(axes: Axes) -> list[tuple[str, str]]:
    """(y, label)"""
    heights = ticks(axes.bottom, axes.top)
    apart = heights[1] - heights[0] if len(heights) > 1 else 1.0
    # as many decimals as tell two ticks apart
    digits = max(0, -math.floor(math.log10(apart) + 1e-9))
    return [
        (
            axes.percent((0, value))[1],
            f"{value:.{digits}f}" if digits < 5 and abs(value) < 1e5 else f"{value:.2g}",
        )
        for value in heights
    ]


def _describe(lines: Sequence[Line], level: ReferenceLine | None, show: Show) -> str:
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


def _curve(line: Line, axes: Axes, show: Show) -> tuple[str, str, list[tuple[str, str, str]]]:
    """(CSS class, path in the box, (x, y, tooltip) of each dot)"""
    path = "M" + "L".join("{:.1f} {:.1f}".format(*axes.place(point)) for point in line.points)
    # a path through a single point draws nothing, so a dot does
    if len(line.points) > 1 and (not line.dots or len(line.points) > DOTS):
        return line.css_class, path, []
    dots = [
        (*axes.percent((step, value)), f"step {integer(step)}: {show(value)}")
        for step, value in line.points
        if axes.contains(value)
    ]
    return line.css_class, path, dots


def _best(mark: Point, axes: Axes, show: Show, level: ReferenceLine | None) -> tuple[str, ...]:
    """(x, y, tooltip, label, offset of the label, its side)"""
    x, y = axes.place(mark)
    # above the dot, where no training curve runs, unless the label of the level is there
    above = level is None or not 0 <= y - axes.place((0, level.value))[1] < 100
    return (
        *axes.percent(mark),
        f"best at step {integer(mark[0])}: {show(mark[1])}",
        f"best {show(mark[1])}",
        "-0.9em" if above else "1.6em",
        "end" if x > BOX / 2 else "start",
    )
