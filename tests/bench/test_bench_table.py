"""The benchmark tables are made from rows alone, the newest of each kind."""

import json
import re
from pathlib import Path
from typing import Any

import table

ROOT = Path(__file__).parents[2]

ROW: dict[str, Any] = {
    "what": "training step", "rival": "nanoGPT", "shape": "10.6M", "arch": "gpt2", "dropout": 0.2,
    "seconds": {"median": 12.0, "min": 11.0, "max": 13.4}, "tokens_per_second": 1365.3,
    "ratio": 3.14159, "settings": {"micro": 64}, "contest_threads": 2, "processor": "P",
    "versions": {"torch": "2.13.0"},
}  # fmt: skip
RACE = {
    "what": "time to 1.88", "rival": "scriven", "target": "1.88", "seconds": {"median": 9.87},
    "losses": [1.87, 1.86], "how": "--budget 9s, 2 seeds", "contest_threads": 2, "processor": "P",
    "commit": "abc", "versions": {},
}  # fmt: skip


def test_the_newest_row_of_each_kind_counts() -> None:
    made = table.contests([ROW, {**ROW, "ratio": 2.0}, {**ROW, "dropout": 0.0, "ratio": 1.5}])
    assert "3.14×" not in made
    assert made.count("2.00×") == made.count("1.50×") == 1


def test_figures_are_those_of_the_row() -> None:
    (line,) = table.contests([ROW]).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "training step, dropout 0.2"
    assert cells[3:5] == ["1,365 (±10%)", "3.14×"]
    assert "9.9" in table.races([RACE]) and "1.8700, 1.8600" in table.races([RACE])


def test_without_rows_it_says_so() -> None:
    assert table.page([]) == table.NOTHING


def test_only_the_text_between_the_markers_is_replaced() -> None:
    page = f"before\n{table.MARKERS[0]}\nold\n{table.MARKERS[1]}\nafter"
    assert (
        table.replace_tables(page, "new")
        == f"before\n{table.MARKERS[0]}\nnew\n{table.MARKERS[1]}\nafter"
    )
    assert table.replace_tables(table.replace_tables(page, "new"), "old") == page


def test_rows_of_other_benchmarks_do_not_disturb() -> None:
    lines = table.RESULTS.read_text(encoding="utf-8").splitlines()
    assert table.page([json.loads(line) for line in lines])


def test_the_page_has_the_place_for_the_tables() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    before, after = page.index(table.MARKERS[0]), page.index(table.MARKERS[1])
    assert 0 < before < after


def test_the_programs_and_options_that_are_named_exist() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    page += (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"bench/(\w+\.py)([^`|\n]*)", page)
    assert len(named) > 8
    for program, rest in named:
        source = (ROOT / "bench" / program).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z]+", rest):
            assert f'"{option}"' in source, (program, option)
