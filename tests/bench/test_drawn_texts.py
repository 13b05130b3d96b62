"""bench/drawn_texts.py, run as a command with our own program alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from entries import ROOT
from inputs import TINY, make_run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("count", ["1", "32"])
def test_drawn_texts_are_timed_without_speculation(tmp_path: Path, count: str) -> None:
    text, rows = tmp_path / "book.txt", tmp_path / "rows.jsonl"
    text.write_text("round and round and round it goes\n" * 200)
    run = make_run(TINY, "gpt2", text, tmp_path)
    command = [
        sys.executable, ROOT / "bench" / "drawn_texts.py", run, text, "--results", rows,
        "--count", count, "--tokens", "20", "--repeats", "1", "--work", tmp_path / "work",
        "--peers", tmp_path / "no-python",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    (made,) = [json.loads(line) for line in rows.read_text().splitlines()]
    assert made["rival"] == "scriven" and made["speculation"] is False
    assert made["tokens_per_second"] == pytest.approx(
        int(count) * 20 / made["seconds"]["median"], rel=0.01
    )
