"""Curves: where the points are, read back from the drawing by its own axis labels."""

import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriven.report import curves
from scriven.report.curves import Axes, Line, ReferenceLine, downsample, fit_axes, ticks
from scriven.report.page import render_macro


def show(value: float) -> str:
    return f"{value:.3f}"


def chart(*args: Any, **settings: Any) -> str:
    """The markup of a chart."""
    return render_macro("chart", **curves.chart(*args, **settings))


class Drawing(HTMLParser):
    """The paths, dots and axis labels of a chart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.paths: dict[str, np.ndarray] = {}
        self.dots: list[tuple[float, float]] = []
        self.across: list[tuple[float, float]] = []
        self.up: list[tuple[float, float]] = []
        self.levels: list[float] = []
        self.words: list[str] = []
        self._label: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        each = dict(attrs)
        if tag == "path":
            numbers = [float(word) for word in re.findall(r"-?[\d.]+", each["d"])]
            # The box is 1000 x 1000; percent is what labels and dots use.
            self.paths[each["class"]] = np.array(numbers).reshape(-1, 2) / 10
        if tag == "circle" and "dot" in each["class"]:
            self.dots.append((float(each["cx"][:-1]), float(each["cy"][:-1])))
        if tag == "line" and each["class"] == "level" and "%" in each["y1"]:
            self.levels.append(float(each["y1"][:-1]))
        self._label = each if tag == "text" else None

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.words.append(data)
        if self._label is not None and "tick" in self._label["class"]:
            if self._label["x"].endswith("%"):
                self.across.append((float(self._label["x"][:-1]), float(data.replace(",", ""))))
            else:
                self.up.append((float(self._label["y"][:-1]), float(data)))

    def read(self, points: np.ndarray) -> np.ndarray:
        """Places in percent -> (step, value), by the straight line through two axis labels."""
        (x0, s0), (x1, s1) = self.across[0], self.across[-1]
        (y0, v0), (y1, v1) = self.up[0], self.up[-1]
        steps = s0 + (points[:, 0] - x0) * (s1 - s0) / (x1 - x0)
        values = v0 + (points[:, 1] - y0) * (v1 - v0) / (y1 - y0)
        return np.stack([steps, values], axis=1)


def losses(count: int) -> list[tuple[float, float]]:
    return [
        (10.0 * i, 1.4 + 2.5 * math.exp(-i / 15) + 0.05 * math.sin(i)) for i in range(1, count + 1)
    ]


def check_coordinates(count: int = 60) -> None:
    points = losses(count)
    level = ReferenceLine("counting", 1.67)
    drawing = Drawing(
        chart("Loss", [Line("validation", "held", points, dots=True)], show=show, level=level)
    )
    path = drawing.paths["held"]
    assert len(path) == count
    # 0.1 of 1000 box units is how finely the path is written.
    height = 1.1 * (max(v for _, v in points) - 1.4)
    np.testing.assert_allclose(drawing.read(path)[:, 0], [s for s, _ in points], atol=count * 0.01)
    np.testing.assert_allclose(drawing.read(path)[:, 1], [v for _, v in points], atol=height * 2e-4)
    read = drawing.read(np.array(drawing.dots))
    np.testing.assert_allclose(read[:, 1], [v for _, v in points], atol=height * 2e-4)
    flat = drawing.read(np.array([(0.0, drawing.levels[0])]))
    assert flat[0, 1] == pytest.approx(1.67, abs=height * 2e-4)


def test_points_read_back_by_the_axis_labels_are_the_data():
    check_coordinates()


def test_the_check_above_notices_a_curve_that_is_not_to_scale(monkeypatch):
    real = Axes.place

    def bent(self: Axes, point: tuple[float, float]) -> tuple[float, float]:
        x, y = real(self, point)
        return x, y + 0.01 * y * (1000 - y) / 1000

    monkeypatch.setattr(Axes, "place", bent)
    with pytest.raises(AssertionError):
        check_coordinates()


def test_the_check_above_notices_a_point_too_few(monkeypatch):
    monkeypatch.setattr(curves, "downsample", lambda points: list(points)[:-1])
    with pytest.raises(AssertionError):
        check_coordinates()


def test_a_frame_has_later_to_the_right_and_more_at_the_top():
    frame = Axes(right=200, bottom=1.0, top=5.0)
    assert frame.place((0, 5.0)) == (0, 0)
    assert frame.place((200, 1.0)) == (1000, 1000)
    assert frame.place((50, 2.0)) == (250, 750)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(-1e6, 1e6)), max_size=3000))
def test_downsampling_gives_the_means_of_equal_neighbouring_groups(points):
    found = downsample(points)
    assert len(found) <= 400
    if len(points) <= 400:
        assert found == points
        return
    size = math.ceil(len(points) / 400)
    for index, (step, value) in enumerate(found):
        group = np.array(points[index * size : (index + 1) * size], dtype=np.float64)
        assert step == pytest.approx(group[:, 0].mean())
        assert value == pytest.approx(group[:, 1].mean(), abs=1e-6)
    assert len(found) == math.ceil(len(points) / size)


def test_a_long_run_is_drawn_with_at_most_400_points_and_no_dots():
    points = [(float(i), math.sin(i / 3000)) for i in range(1, 10_001)]
    drawing = Drawing(chart("Loss", [Line("training", "train", points, dots=True)], show=show))
    assert len(drawing.paths["train"]) == 400
    assert drawing.dots == []


def test_a_peak_at_the_start_may_leave_the_frame_and_the_page_says_so():
    points = [(1.0, 90.0)] + [(float(i), 2.0 - i / 200) for i in range(2, 101)]
    line = Line("training", "train", points)
    assert fit_axes([line], cut="top").top < 3
    assert fit_axes([line]).top > 90
    words = "".join(Drawing(chart("Loss", [line], show=show, cut="top")).words)
    assert "above the frame, up to 90.000" in words


def test_a_short_line_is_never_cut():
    points = [(1.0, 90.0), (2.0, 3.0), (3.0, 2.0)]
    assert fit_axes([Line("training", "train", points)], cut="top").top > 90


@pytest.mark.parametrize("points", [[(0.0, 0.0)], [(5.0, 1.5)], [(1.0, 2.0), (2.0, 2.0)]])
def test_a_single_point_and_a_flat_line_are_drawn_inside_the_frame(points):
    drawing = Drawing(chart("Loss", [Line("validation", "held", points)], show=show))
    assert ((drawing.paths["held"] >= 0) & (drawing.paths["held"] <= 100)).all()
    assert len(drawing.dots) == (1 if len(points) == 1 else 0)


def test_no_points_give_a_sentence_instead_of_a_drawing():
    drawing = Drawing(chart("Loss", [Line("training", "train", [])], show=show))
    assert drawing.paths == {}
    assert "No data yet." in drawing.words


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_round_evenly_spaced_and_inside(low, span, most):
    high = low + span
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most
    slack = 1e-6 * span + 4 * np.spacing(max(abs(low), abs(high)))  # no number lies between
    assert all(low - slack <= each <= high + slack for each in found)
    if len(found) > 1:
        apart = found[1] - found[0]
        assert np.allclose(np.diff(found), apart, rtol=1e-3)
        digits = float(f"{apart:.3e}".split("e")[0])
        assert digits == pytest.approx(round(digits), rel=1e-2)
        assert round(digits) in (1, 2, 5, 10)


def test_the_chart_has_a_description_in_words():
    words = "".join(
        Drawing(
            chart(
                "Loss, nats",
                [Line("training", "train", [(1.0, 4.0), (1000.0, 1.5)])],
                show=show,
                level=ReferenceLine("counting 5-grams", 1.67),
                mark=(1000.0, 1.5),
            )
        ).words
    )
    assert "training: from 4.000 at step 1 to 1.500 at step 1,000" in words
    assert "counting 5-grams: 1.670" in words
    assert "best at step 1,000: 1.500" in words
