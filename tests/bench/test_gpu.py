"""bench/gpu.py: runs on the CPU, and without a GPU it is no error."""

import json
import subprocess
import sys
from pathlib import Path

import decoding
import gpu
import pytest
import torch

from scriven.runtime import choose_runtime
from scriven.settings import RuntimeSettings

PROGRAM = Path(__file__).parents[2] / "bench" / "gpu.py"


def run(*arguments: str) -> str:
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    return done.stdout


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # none that the program can see
    assert "no GPU" in run()


def test_it_measures_training_and_generation(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    run("--device", "cpu", "--tiny", "--no-compile", "--repeats", "2", "--results", str(out))
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["what"] for row in found] == ["one GPU, training", *2 * ["one GPU, writing"]]
    assert [row["way"] for row in found[1:]] == ["growing", "still"]
    assert all(row["tokens_per_second"] > 0 for row in found)
    assert 0 < found[0]["utilisation"] < 1


def generated(way: str, prompt: list[int]) -> list[list[int]]:
    """Two texts of a model with large random weights, one after the other."""
    torch.manual_seed(0)
    task = gpu.TINY[0].build().eval()
    for weight in task.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)
    runtime = choose_runtime(RuntimeSettings(device="cpu", dtype="float32"))
    write = decoding.writer(way, task, runtime, torch.tensor([prompt]), 24)
    return [torch.cat(write(), 1)[0].tolist() for _ in range(2)]


@pytest.mark.parametrize("prompt", [[1], [5, 60, 7]])
def test_a_static_cache_generates_the_same_text(prompt: list[int]) -> None:
    first, second = generated("still", prompt)
    assert first == second == generated("growing", prompt)[0]
    assert len(set(first)) > 3, "a text that distinguishes models"


def test_planted_bug_a_text_that_continues_the_last_one_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forgetful(self: decoding.StaticDecoder) -> torch.Tensor:
        self.at.copy_(self.begin)
        return self.first

    monkeypatch.setattr(decoding.StaticDecoder, "restart", forgetful)
    first, second = generated("still", [1])
    assert first != second
