"""bench/gpu.py: tried on the processor, and without a GPU no error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "bench" / "gpu.py"


def run(*arguments: str) -> str:
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    return done.stdout


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # none that the program can see
    assert "no GPU here" in run()


def test_it_measures_training_and_writing(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    run("--device", "cpu", "--tiny", "--no-compile", "--repeats", "2", "--results", str(out))
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["what"] for row in found] == ["one GPU, training", "one GPU, writing"]
    assert all(row["tokens_per_second"] > 0 for row in found)
    assert 0 < found[0]["utilisation"] < 1
