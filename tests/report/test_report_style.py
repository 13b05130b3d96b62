"""Colours: legible in light, dark and print, and in the heat map without colour vision."""

import re
from importlib.resources import files

import pytest


def style() -> str:
    return files("scriven.report").joinpath("style.css").read_text(encoding="utf-8")


def palette(which: str) -> dict[str, str]:
    """The colours of the light, the dark or the printed page."""
    blocks = re.findall(r":root \{(.*?)\}", style(), re.DOTALL)
    assert len(blocks) == 3
    colours = [dict(re.findall(r"--([\w]+): (#\w+|transparent)", block)) for block in blocks]
    return {**colours[0], **colours[{"light": 0, "dark": 1, "print": 2}[which]]}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(each * 2 for each in digits)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("which", ["light", "dark", "print"])
def test_words_have_a_contrast_of_at_least_4_5(which):
    assert contrast("#fff", "#000") == pytest.approx(21)
    colour = palette(which)
    for ground in ("paper", "card"):
        for ink in ("ink", "soft", "held"):
            assert contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)
        for line in ("held", "train", "rate", "level"):
            assert contrast(colour[line], colour[ground]) >= 3, (line, ground)
    assert contrast(colour["ink"], colour["wash"]) >= 4.5
    for level in (1, 2, 3):
        assert contrast(colour["ink"], colour[f"s{level}"]) >= 4.5, level
    for level in (4, 5):
        assert contrast(colour["strong"], colour[f"s{level}"]) >= 4.5, level


@pytest.mark.parametrize("which", ["light", "dark", "print"])
def test_the_heat_map_can_be_read_by_lightness_alone(which):
    colour = palette(which)
    steps = [luminance(colour["card"])] + [luminance(colour[f"s{level}"]) for level in range(1, 6)]
    assert steps == sorted(steps, reverse=which != "dark")


def test_the_page_knows_dark_narrow_and_printed():
    text = style()
    for words in ("prefers-color-scheme: dark", "max-width: 46rem", "@media print"):
        assert words in text
