"""One, two and four processes train the same model: DDP and FSDP2, four architectures."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from .conftest import launch

STEPS = 20
MODES = ("ddp", "fsdp")
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "roberta": {},
    "transformer": {},
    "transformer_xl": {"model.memory": 16},
}


def job(words: Path, out: Path, arch: str, mode: str | None, double: bool) -> dict[str, Any]:
    settings = {
        "model.layers": 2, "model.heads": 2, "model.d_model": 16, "model.context_length": 16,
        "tokenizer.kind": "char", "train.batch_size": 8, "train.micro_batch_size": 2,
        "train.eval_interval": 5, "train.save_interval": 1000, "train.sample_seconds": 0,
        "runtime.dtype": "float32", "optim.lr": 0.01, **SHAPES[arch],
    }  # fmt: skip
    if mode is not None:
        settings["runtime.parallel"] = mode
    return {
        "source": str(words), "out": str(out), "arch": arch, "budget": f"{STEPS}steps",
        "seed": 5, "settings": settings, "double": double,
    }  # fmt: skip


def losses(run: Path) -> list[float]:
    """Of all evaluations, and of the last weights."""
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if event["event"] == "evaluation"]


def read(run: Path, processes: int) -> dict[int, list[list[int]]]:
    """The rows of each batch, by the number of its first sample, of all processes in order."""
    found: dict[int, list[list[int]]] = {}
    for rank in range(processes):
        path = run.parent / f"{run.name}-read-{rank}.jsonl"
        for line in map(json.loads, path.read_text().splitlines()):
            found.setdefault(line["sample"], []).extend(line["rows"])
    return found


Runs = Callable[[int, bool], Path]
FOUR = pytest.param(4, marks=pytest.mark.slow)
SINGLE = pytest.param(False, 1e-6, marks=pytest.mark.slow, id="single")


@pytest.fixture(scope="module")
def runs(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The folder of all runs on so many processes; trained when asked for."""
    folder = tmp_path_factory.mktemp("equal")

    @cache
    def trained(processes: int, double: bool) -> Path:
        jobs = [
            job(words, folder / f"{arch}-{processes}-{mode}-{double}", arch, mode, double)
            for arch in SHAPES
            for mode in ([None] if processes == 1 else MODES)
        ]
        launch(jobs, processes, folder)
        return folder

    return trained


@pytest.mark.parametrize("processes", [2, FOUR])
@pytest.mark.parametrize(("double", "tolerance"), [pytest.param(True, 1e-12, id="double"), SINGLE])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arch", SHAPES)
def test_losses_are_those_of_one_process(
    runs: Runs, arch: str, mode: str, double: bool, tolerance: float, processes: int
) -> None:
    alone = losses(runs(1, double) / f"{arch}-1-None-{double}")
    several = losses(runs(processes, double) / f"{arch}-{processes}-{mode}-{double}")
    assert len(alone) == STEPS // 5
    assert several == pytest.approx(alone, rel=tolerance)


@pytest.mark.parametrize("processes", [2, FOUR])
@pytest.mark.parametrize("arch", SHAPES)
def test_processes_read_the_rows_that_one_reads(runs: Runs, arch: str, processes: int) -> None:
    alone = read(runs(1, True) / f"{arch}-1-None-True", 1)
    assert sorted(alone) == [8 * step for step in range(STEPS)]
    for mode in MODES:
        assert read(runs(processes, True) / f"{arch}-{processes}-{mode}-True", processes) == alone


@pytest.mark.parametrize("processes", [2, FOUR])
@pytest.mark.parametrize("mode", MODES)
def test_weights_are_those_of_one_process(runs: Runs, mode: str, processes: int) -> None:
    alone = load_file(runs(1, True) / "llama-1-None-True" / "model.safetensors")
    several = load_file(
        runs(processes, True) / f"llama-{processes}-{mode}-True" / "model.safetensors"
    )
    assert alone.keys() == several.keys()
    for key, weight in alone.items():
        assert (weight - several[key]).abs().max() < 1e-6, key  # stored in float32
