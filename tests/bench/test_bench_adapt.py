"""bench/adapt.py, run as a command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from entries import ROOT
from inputs import TINY, make_run


@pytest.mark.slow
def test_steps_are_measured_beside_peft(tmp_path: Path) -> None:
    text, rows = tmp_path / "book.txt", tmp_path / "rows.jsonl"
    text.write_text("".join(map(chr, range(32, 1100))) * 3, encoding="utf-8")
    run = make_run(TINY, "llama", text, tmp_path)
    command = [sys.executable, ROOT / "bench" / "adapt.py", run, "--results", rows]
    subprocess.run(
        [*command, "--tokens", "32", "--steps", "1", "--rounds", "1", "--threads", "1",
         "--variants", "scriven", "peft-amp-eager"],
        check=True,
    )  # fmt: skip
    (row,) = [json.loads(line) for line in rows.read_text().splitlines()]
    figures = row["figures"]
    assert set(figures) == {"scriven", "peft-amp-eager"}
    for key in ("seconds", "cpu_seconds", "peak_mb"):
        expected = figures["peft-amp-eager"][key] / figures["scriven"][key]
        assert row["ratio"][key] == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
def test_a_training_from_a_model_is_measured(tmp_path: Path) -> None:
    text, rows = tmp_path / "book.txt", tmp_path / "rows.jsonl"
    text.write_text("the rain fell and no one came to see what it had done. " * 60)
    run = make_run(TINY, "llama", text, tmp_path)
    command = [sys.executable, ROOT / "bench" / "from_model.py", run, text, "--results", rows]
    subprocess.run(
        [*command, "--steps", "5", "--characters", "2000", "--old", text, "--set",
         "finetune.weights=lora"],
        check=True,
    )  # fmt: skip
    (row,) = [json.loads(line) for line in rows.read_text().splitlines()]
    assert row["better"] == pytest.approx(1 - row["after"] / row["before"], abs=1e-3)
    assert {"old_before", "old_after", "cpu_seconds", "val_tokens"} <= row.keys()
