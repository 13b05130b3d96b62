"""LoRA adapters for another text: several processes train what one does."""

import json
from pathlib import Path
from typing import Any

import pytest

from scriven.runs import checkpoint
from scriven.runs.metadata import read_run_metadata

from .conftest import launch

SHAPE = {
    "model.layers": 2, "model.heads": 2, "model.d_model": 16, "model.context_length": 16,
    "tokenizer.kind": "char",
}  # fmt: skip
PLAIN = {
    "train.batch_size": 8, "train.micro_batch_size": 2, "train.eval_interval": 5,
    "train.sample_seconds": 0, "runtime.dtype": "float32", "optim.lr": 0.01,
}  # fmt: skip
LORA = {"finetune.weights": "lora", "finetune.lora_rank": 2, "optim.lr": 0.02}


def job(source: Path, out: Path, **more: Any) -> dict[str, Any]:
    settings = {**PLAIN, **more.pop("settings", {})}
    return {"source": str(source), "out": str(out), "budget": "10steps", "seed": 5,
            "settings": settings, "double": False, **more}  # fmt: skip


def losses(run: Path) -> list[float]:
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if event["event"] == "evaluation"]


@pytest.fixture(scope="module")
def folder(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, and runs from it on one and on two processes."""
    folder = tmp_path_factory.mktemp("adapters")
    other = folder / "other.txt"
    other.write_text(words.read_text()[::-1])
    start = {"start": str(folder / "base"), "replay": "0"}
    jobs = [job(words, folder / "base", settings=SHAPE)]
    for processes in (1, 2):
        jobs += [
            job(other, folder / f"lora-{processes}", settings=LORA, **start),
            job(other, folder / f"full-{processes}", **start),
        ]
        launch(jobs, processes, folder)
        jobs = []
    return folder


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_losses_are_those_of_one_process(folder: Path, weights: str) -> None:
    alone, several = (losses(folder / f"{weights}-{processes}") for processes in (1, 2))
    assert len(alone) > 1  # the first is of the base model
    assert several == pytest.approx(alone, rel=1e-5)
    assert alone[-1] < alone[0] - 1e-3
    one, two = (read_run_metadata(folder / f"{weights}-{n}") for n in (1, 2))
    assert two["environment"]["processes"] == 2
    for name in ("val_bits_per_byte", "base_val_bits_per_byte"):
        assert two["results"][name] == pytest.approx(one["results"][name], rel=1e-5)


def test_adapters_are_those_of_one_process(folder: Path) -> None:
    """The last ones, as the best may be those before the first step."""
    saved = [checkpoint.load_newest(folder / f"lora-{n}") for n in (1, 2)]
    alone, several = (each.tensors["model"] for each in saved if each is not None)
    assert alone.keys() == several.keys() and alone
    for name, weight in alone.items():
        assert (weight - several[name]).abs().max() < 1e-5, name
    assert any(each.abs().max() > 1e-3 for name, each in alone.items() if name.endswith(".b"))
