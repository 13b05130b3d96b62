"""Every figure of README.md and docs/ is what its command printed."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import docpages
import pytest

ROOT = docpages.ROOT
MADE: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_figures.py"))
PAGES: list[Path] = MADE["pages"]()
OUTPUTS = sorted((ROOT / "docs" / "outputs").glob("*.json"))

README = {
    "10m": "what a user types", "1h": "what a user types", "3m": "what a user types",
    "1e-10": "the tolerance of tests/models", "1e-12": "the tolerance of tests/parallel",
    "124,439,808": "scriven inspect gpt2-small", "111,540": "the validation part: data of the rows",
    "1,024": "an example of scriven plan", "95 %": "the level of every interval",
    "3.0.0": "a version", "3.11": "a version", "0.1.0": "a version", "2017": "a year",
}  # fmt: skip
"""Figures of the README that stand in a sentence, and where they come from."""

PRINTED = {
    "adapt.md": "bench/from_model.py and scriven train --from",
    "benchmarks.md": "bench/table.py, from bench/results.jsonl",
    "compare.md": "scriven compare --markdown",
    "explain.md": "scriven explain",
    "finetuning.md": "bench/tasks",
    "plays-tasks.md": "bench/tasks/plays.py",
    "presets.md": "docs/make_presets.py",
    "results.md": "scriven compare --markdown of the commands above each table",
    "scaling.md": "docs/make_scaling.py and bench/fits.py",
    "scores.md": "bench/tasks",
    "task-dpo.md": "bench/preferences.py",
    "training.md": "bench/longer.py",
}
"""Pages with measured figures outside of the blocks of docs/make_figures.py, and their command."""


def without_blocks(text: str) -> str:
    """A page without generated figures, code, links and comments."""
    text = MADE["BLOCK"].sub("", text)
    return re.sub(r"^```.*?^```$|`[^`\n]+`|\]\([^)]+\)|<[^>]+>", "", text, flags=re.M | re.S)


UNITS = {
    "ms": 1e-3, "s": 1.0, "seconds": 1.0, "min": 60.0, "minutes": 60.0, "h": 3600.0,
    "hours": 3600.0, "kB": 1e3, "MB": 1e6, "MiB": 2.0**20, "GB": 1e9, "GiB": 2.0**30, "k": 1e3,
    "M": 1e6, "million": 1e6, "billion": 1e9, "times": 1.0,
}  # fmt: skip
"""What makes a whole number a figure, and how much of it there is in one."""
FIGURE = re.compile(
    r"\d+(?:,\d{3})+|\d+e-\d+|\d+(?:\.\d+)+(?: %)?|\d+ %"
    rf"|(?<![\d.,-])\d+\s(?:{'|'.join(UNITS)})\b"
)


def figures(text: str) -> set[str]:
    """Numbers with a decimal point, a thousands separator, an exponent, a percent sign or a
    unit."""
    return {" ".join(found.split()) for found in FIGURE.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_are_those_of_their_rows_and_outputs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == MADE["with_figures"](text), "run make figures"


def test_a_figure_that_was_typed_is_noticed() -> None:
    """A planted bug."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    typed = re.sub(r"(<!-- figure: losses -->.*?)1\.5", r"\g<1>1.4", text, count=1, flags=re.S)
    assert typed != text
    assert MADE["with_figures"](typed) == text


def test_every_block_and_every_output_is_used() -> None:
    blocks = [MADE["BLOCK"].findall(page.read_text(encoding="utf-8")) for page in PAGES]
    used = {name for page in blocks for _, name in page}
    assert MADE["FIGURES"].keys() <= used
    assert {path.stem for path in OUTPUTS} - {"report"} <= used


def test_the_readme_has_no_other_figures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert figures(without_blocks(text)) <= README.keys()


def test_pages_with_figures_name_what_prints_them() -> None:
    """Losses, accuracies and intervals have three digits and more after the point."""
    found = set()
    for page in PAGES:
        measured = re.findall(r"(?<![\d.])\d\.\d{3,4}(?![\d.])", without_blocks(page.read_text()))
        if len(measured) > 3:
            found.add(page.name)
    assert found <= PRINTED.keys() | {"settings.md"}
    for name, command in PRINTED.items():
        for path in re.findall(r"(?:bench|docs)/[\w/.]+", command):
            assert (ROOT / path).exists(), (name, path)


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in OUTPUTS if p.stem != "report"], ids=lambda p: p.stem)
def test_an_example_prints_what_its_page_shows(
    path: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    """The same lines; on the same processor the first score, within its interval."""
    monkeypatch.setitem(MADE["run_example"].__globals__, "OUTPUTS", tmp_path)
    MADE["run_example"](path.stem)
    kept, now = (json.loads(each.read_text()) for each in (path, tmp_path / path.name))
    same_processor = kept["processor"] == now["processor"]
    kept, now = kept["output"], now["output"]

    def form(text: str) -> list[str]:
        return [re.sub(r"[-\d.]+", "#", line) for line in text.splitlines() if "[" in line]

    assert form(now) == form(kept)
    if not same_processor:
        return
    low, high = map(float, re.search(r"\[([-\d.]+), ([-\d.]+)\]", kept).groups())  # type: ignore[union-attr]
    value = float(re.search(r"([-\d.]+) \[", now).group(1))  # type: ignore[union-attr]
    spread = (high - low) / 2
    assert low - spread <= value <= high + spread
