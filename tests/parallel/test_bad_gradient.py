"""A gradient that is infinite in one process only: no process updates its weights."""

import json
from pathlib import Path

import pytest

from .conftest import launch
from .test_equal_losses import job, losses

STEP = 7


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_skip_the_step(words: Path, tmp_path: Path, rank: int) -> None:
    jobs = [job(words, tmp_path / f"llama-{mode}", "llama", mode, True) for mode in ("ddp", "fsdp")]
    for each in jobs:
        each["settings"] |= {"train.log_seconds": 0, "optim.lr_schedule": "constant"}
        each["poison"] = (rank, STEP)
    launch(jobs, 2, tmp_path)
    logs = []
    for mode in ("ddp", "fsdp"):
        log = (tmp_path / f"llama-{mode}" / "metrics.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in log]
        notes = [event["text"] for event in events if event["event"] == "note"]
        skipped = f"step {STEP}: the gradient is NaN or infinite; step skipped (1 in a row)"
        assert notes == [skipped]
        steps = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
        assert steps[STEP] is None
        assert all(loss is not None for step, loss in steps.items() if step != STEP)
        logs.append(losses(tmp_path / f"llama-{mode}"))
    assert logs[0] == pytest.approx(logs[1], rel=1e-12), "a process would have other weights"
