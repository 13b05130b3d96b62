"""Trainings by compiled code or PyTorch: which of them is chosen, and what it leads to."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import scriven
from scriven.errors import InputError
from scriven.native import library
from scriven.native.library import num_threads, single_threaded_pytorch
from scriven.native.training import NativeTraining
from scriven.runtime import Runtime
from scriven.train import native_step, trainer
from scriven.train.stopping import Interrupted
from scriven.train.throughput import random_model, random_steps

RUN = {
    "model.layers": 2, "model.heads": 2, "model.d_model": 64, "model.context_length": 64,
    "train.batch_size": 4, "train.eval_interval": 12, "train.sample_seconds": 0,
    "tokenizer.kind": "byte", "runtime.threads": 1, "runtime.dtype": "float32",
}  # fmt: skip


def train(folder: Path, name: str, budget: str = "12steps", **settings: Any) -> dict[str, Any]:
    """The results of a run."""
    text = folder / "text.txt"
    if not text.exists():
        words = ["the", "cat", "sat", "on", "a", "mat", "and", "that", "dog", "ran"]
        text.write_text(" ".join(words[i * i % 13 % len(words)] for i in range(4000)))
    trained = scriven.train(
        text, budget=budget, out=folder / name, quiet=True, seed=1, settings={**RUN, **settings}
    )
    return dict(trained.results)


def weights_of(run: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run / "model.safetensors")


def test_trained_losses_agree_and_runs_repeat(tmp_path: Path) -> None:
    native = train(tmp_path, "native", **{"runtime.native": True})
    again = train(tmp_path, "again", **{"runtime.native": True})
    torch_ = train(tmp_path, "torch", **{"runtime.native": False})
    assert native["val_loss"] == again["val_loss"]
    assert native["val_loss"] == pytest.approx(torch_["val_loss"], rel=1e-3)
    one, other, third = (weights_of(tmp_path / name) for name in ("native", "again", "torch"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert any(not torch.equal(one[key], third[key]) for key in one)  # it was another path


@pytest.mark.parametrize("faster", ["native", "torch"])
def test_the_faster_way_is_taken(
    faster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(run: Any, forward: Any, *_: Any) -> float:
        return 0.1 if isinstance(forward, NativeTraining) == (faster == "native") else 0.2

    monkeypatch.setattr(native_step, "_seconds", seconds)
    chosen = []

    def use(run: Any, parallel: Any, optimizers: Any, state: Any, *rest: Any) -> None:
        native_step.use_native_step(run, parallel, optimizers, state, *rest)
        chosen.append((state.native_step, isinstance(parallel.forward, NativeTraining)))

    monkeypatch.setattr(trainer, "use_native_step", use)
    for path in library.library_path("training").parent.glob("times-*.json"):  # type: ignore[union-attr]
        path.unlink()
    train(tmp_path, "run", "2steps")
    monkeypatch.setattr(native_step, "_seconds", None)  # measured once for a machine and a shape
    train(tmp_path, "another", "2steps")
    assert chosen == [(faster == "native", faster == "native")] * 2
    found = json.loads(
        next(library.library_path("training").parent.glob("times-*.json")).read_text()
    )  # type: ignore[union-attr]
    assert sorted(found) == ["native", "torch"]


def test_a_resumed_run_goes_on_with_compiled_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_step, "_is_faster", lambda *_: True)
    straight = train(tmp_path, "straight")
    report = trainer.Trainer.report
    with monkeypatch.context() as patch:

        def stop_after_six(self: Any, state: Any, *rest: Any) -> None:
            report(self, state, *rest)
            self.stop.number = signal.SIGINT if state.step == 6 else None

        patch.setattr(trainer.Trainer, "report", stop_after_six)
        with pytest.raises(Interrupted):
            train(tmp_path, "run")
    monkeypatch.setattr(native_step, "_is_faster", None)  # what was decided is kept
    resumed = scriven.train(resume=tmp_path / "run", quiet=True).results
    assert resumed["val_loss"] == straight["val_loss"]
    one, other = weights_of(tmp_path / "straight"), weights_of(tmp_path / "run")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_cache_that_cannot_be_written_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise InputError("read-only")

    monkeypatch.setattr(native_step, "write_file", refuse)
    assert train(tmp_path, "run", "2steps", **{"model.d_ff": 96})["steps"] == 2


def test_pytorch_gives_its_threads_up_during_a_compiled_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = []
    call = NativeTraining.__call__

    def count(native: NativeTraining, *given: Any) -> Any:
        counts.append((torch.get_num_threads(), num_threads()))
        return call(native, *given)

    monkeypatch.setattr(NativeTraining, "__call__", count)
    runtime = Runtime(torch.device("cpu"), torch.float32, 2, {})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        step, _ = random_steps(random_model("small", runtime), runtime, native=True, wait=True)
        step()
        with pytest.raises(InputError), single_threaded_pytorch():
            raise InputError("in the middle of a step")
        assert (torch.get_num_threads(), num_threads()) == (2, 2)
    finally:
        torch.set_num_threads(before)
    assert counts == [(1, 2)], "OpenMP's threads spin where compiled code runs"
