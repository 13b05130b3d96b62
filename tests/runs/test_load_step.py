"""`RUN@STEP` is the model of one checkpoint, for `generate`, `serve` and everything that loads."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.reliability.runs import request, write_text

import scriven
from scriven.errors import InputError
from scriven.train.run import start_or_resume


def test_the_weights_of_a_checkpoint_are_loaded_by_its_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    more = {"train__save_interval": 5, "train__keep_checkpoints": 10}
    start_or_resume(request(write_text(tmp_path), folder, "20steps", **more))
    for step in (5, 15):
        model = scriven.load(f"{folder}@{step}")
        stored = load_file(folder / "checkpoints" / f"step-{step}" / "model.safetensors")
        found = model.task.state_dict()
        assert all(torch.equal(found[name], stored[name]) for name in stored)
        assert (model.step, model.warnings) == (step, [])
    assert scriven.load(folder).step is None
    with pytest.raises(InputError, match=r"no checkpoint of step 7: there are 5, 10, 15, 20"):
        scriven.load(f"{folder}@7")


def test_a_run_may_have_such_a_name_itself(tmp_path: Path) -> None:
    folder = tmp_path / "run@5"
    start_or_resume(request(write_text(tmp_path), folder, "2steps"))
    assert scriven.load(folder).step is None
