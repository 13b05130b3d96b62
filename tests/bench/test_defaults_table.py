"""The table of docs/results.md is what its rows say."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_rows() -> None:
    table = runpy.run_path(str(ROOT / "bench/tasks/table.py"))
    text = (ROOT / "bench/tasks/defaults.jsonl").read_text(encoding="utf-8")
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    made = table["defaults"]([json.loads(line) for line in text.splitlines()])
    assert table["replaced"](page, made) == page
    changed = text.replace("0.8", "0.7")
    other = table["defaults"]([json.loads(line) for line in changed.splitlines()])
    assert table["replaced"](page, other) != page
