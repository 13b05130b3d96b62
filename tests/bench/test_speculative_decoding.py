"""bench/speculative_decoding.py, run as a command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from entries import ROOT
from inputs import TINY, make_run


def test_generation_is_measured_with_and_without_speculation(tmp_path: Path) -> None:
    text, rows = tmp_path / "book.txt", tmp_path / "rows.jsonl"
    text.write_text("round and round and round it goes\n" * 200)
    run = make_run(TINY, "llama", text, tmp_path)
    command = [
        sys.executable,
        ROOT / "bench" / "speculative_decoding.py",
        run,
        text,
        "--results",
        rows,
    ]
    subprocess.run([*command, "--tokens", "20", "--repeats", "1"], check=True)
    made = [json.loads(line) for line in rows.read_text().splitlines()]
    measured = [(row["prompts"], row["temperature"]) for row in made]
    assert measured == [(1, 0.0), (1, 0.8), (32, 0.0), (32, 0.8)]
    for row in made:
        both = row["tokens_per_second"]
        assert row["ratio"] == pytest.approx(both["with"] / both["without"], rel=0.05)
