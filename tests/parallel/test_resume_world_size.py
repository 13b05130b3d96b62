"""A run that goes on with another number of processes: the same text, the same weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import launch
from .test_equal_losses import STEPS, job, losses, read

CHAIN = (1, 2, 4, 1)
EACH = 5
ARCHITECTURES = ("llama", "transformer_xl")


def part(words: Path, out: Path, arch: str, mode: str | None, steps: int) -> dict[str, Any]:
    """The training up to a step: its budget is that of the whole, and it is interrupted there."""
    made = job(words, out, arch, mode, double=True)
    if steps < STEPS:
        made["until"] = steps
    return made


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_one_two_four_one_equals_one(words: Path, tmp_path: Path, mode: str) -> None:
    whole = [job(words, tmp_path / f"{arch}-whole", arch, None, True) for arch in ARCHITECTURES]
    launch(whole, 1, tmp_path)
    for turn, processes in enumerate(CHAIN, 1):
        jobs = [
            part(words, tmp_path / arch, arch, mode if processes > 1 else None, EACH * turn)
            for arch in ARCHITECTURES
        ]
        launch(jobs, processes, tmp_path)
    for arch in ARCHITECTURES:
        assert losses(tmp_path / arch) == pytest.approx(
            losses(tmp_path / f"{arch}-whole"), rel=1e-12
        )
        assert read(tmp_path / arch, 4) == read(tmp_path / f"{arch}-whole", 1)
        events = (tmp_path / arch / "metrics.jsonl").read_text().splitlines()
        assert sum(json.loads(event)["event"] == "note" for event in events) == len(CHAIN) - 1
