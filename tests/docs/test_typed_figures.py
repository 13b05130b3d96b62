"""Every figure in a sentence or a hand-made table of README.md and docs/ has a source that has it.

What commands write is compared elsewhere: blocks of docs/make_figures.py in test_figures.py, tables
of bench/table.py in tests/bench, and whole pages in WRITTEN by the tests of their commands.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import docpages
import pytest
from test_figures import PAGES, UNITS, figures, without_blocks

SOURCES: dict[str, dict[str, list[str]]] = tomllib.loads(
    Path(__file__).with_name("typed_figures.toml").read_text(encoding="utf-8")
)
WRITTEN = {
    "glossary.md": "numbers of papers",
    "presets.md": "docs/make_presets.py",
    "scaling.md": "docs/make_scaling.py",
    "settings.md": "docs/make_settings.py",
}
MARKED = re.compile(r"<!-- (\w+) -->.*?<!-- end of \1 -->", re.S)
"""Tables that bench/table.py and bench/tasks/table.py write."""


def typed(page: Path) -> set[str]:
    return figures(without_blocks(MARKED.sub("", page.read_text(encoding="utf-8"))))


def numbers(path: Path) -> Iterator[float]:
    text = re.sub(r"(?<=\d)[_,](?=\d{3})", "", path.read_text(encoding="utf-8"))
    yield from map(float, re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?", text))


def contains(found: set[float], figure: str) -> bool:
    """Whether a figure is one of some numbers, rounded to its digits; percents also as shares, and
    a number with a unit also as so many of the smallest."""
    text, _, unit = figure.partition(" ")
    number = text.replace(",", "")
    value, digits = float(number), len(number.partition(".")[2]) if "e" not in number else 15
    scales = [1.0, 100.0 if unit == "%" else 1 / UNITS.get(unit, 1.0)]
    return any(round(scale * each, digits) == value for scale in scales for each in found)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in WRITTEN], ids=lambda page: page.name
)
def test_every_typed_figure_has_a_source(page: Path) -> None:
    listed = [
        figure
        for each in SOURCES.get(page.relative_to(docpages.ROOT).as_posix(), {}).values()
        for figure in each
    ]
    assert sorted(typed(page)) == sorted(listed)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_is_a_file_has_the_figure(name: str) -> None:
    for source, listed in SOURCES[name].items():
        path = docpages.ROOT / source.removeprefix("python ")
        if "/" in source.split()[0] or source.startswith("python "):
            assert path.exists(), source
        if path.is_file() and not source.startswith("python "):
            found = set(numbers(path))
            assert [each for each in listed if not contains(found, each)] == [], source


def test_a_figure_that_its_source_lacks_is_noticed() -> None:
    found = {0.05, 2048.0, 1.66883}
    found |= {64 << 20, 50_000_000.0}
    right = ("5 %", "2,048", "1.669", "0.05", "50 ms", "64 MiB", "50 million")
    wrong = ("6 %", "2,049", "1.668", "0.06", "51 ms", "64 MB", "51 million")
    assert all(contains(found, each) for each in right)
    assert not any(contains(found, each) for each in wrong)
