"""Runs of models with a memory: going on is bit for bit, and looking at them changes nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scriven.train.recurrent_state import TBPTTState
from scriven.train.run import start_or_resume
from scriven.train.stopping import Interrupted
from scriven.train.train_state import TrainState

from .runs import (
    after_each_step,
    command,
    events,
    refused,
    request,
    stopping_at,
    train,
    whole,
    write_text,
)

KINDS: dict[str, dict[str, object]] = {
    "transformer_xl": {"arch": "transformer_xl", "model__memory": 20},
    "rnn": {"arch": "rnn", "model__cell": "lstm"},
    "gru-adamw": {"arch": "rnn", "model__cell": "gru", "optim__optimizer": "adamw"},
}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path, words=260)


_straight: dict[str, dict[str, str]] = {}


def go(text: Path, out: Path, kind: str, budget: str = "40steps", **more: object) -> None:
    settings = {
        "model__dropout": 0.2, "train__save_seconds": 1000, "train__eval_interval": 7,
        **KINDS[kind], **more,
    }  # fmt: skip
    arch = str(settings.pop("arch"))
    made = request(text, out, budget, **settings)
    dropped = "model.heads" if arch == "rnn" else ""
    named = {name: value for name, value in made.settings.items() if name != dropped}
    start_or_resume(replace(made, settings=named, arch=arch))


@pytest.mark.parametrize("stop", [0, 13, 14, 31])
@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_bit_exact(text: Path, tmp_path: Path, kind: str, stop: int) -> None:
    if kind not in _straight:
        go(text, tmp_path / "straight", kind, train__micro_batch_size=3)
        _straight[kind] = whole(tmp_path / "straight")
    with stopping_at(stop), pytest.raises(Interrupted):
        go(text, tmp_path / "stopped", kind, train__micro_batch_size=3)
    go(text, tmp_path / "stopped", kind, train__micro_batch_size=3)
    assert whole(tmp_path / "stopped") == _straight[kind]


@pytest.mark.parametrize("kind", ["transformer_xl", "rnn"])
def test_the_comparison_would_notice_a_lost_memory(
    text: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(text, tmp_path / "straight", kind)
    with stopping_at(31), pytest.raises(Interrupted):
        go(text, tmp_path / "stopped", kind)
    monkeypatch.setattr(TBPTTState, "load_state_dict", lambda self, tensors: None)
    go(text, tmp_path / "stopped", kind)
    assert whole(tmp_path / "stopped") != whole(tmp_path / "straight")


def test_looking_and_writing_leave_the_memory_alone(text: Path, tmp_path: Path) -> None:
    """The same weights come out, however often the run is looked at."""
    weights = []
    for number, every in enumerate((3, 1000)):
        out = tmp_path / str(number)
        more = {"train__eval_interval": every, "train__sample_seconds": 0.001}
        go(text, out, "transformer_xl", "6steps", **more)
        found = events(out, "evaluation")
        weights.append(found[-1]["loss"])
        assert events(out, "sample")
    assert weights[0] == weights[1]


def test_a_rollback_forgets_what_belongs_to_another_place(text: Path, tmp_path: Path) -> None:
    poisoned = []

    def poison(trainer: Any, state: TrainState) -> None:
        if state.step == 12 and not poisoned:
            poisoned.append(True)
            with torch.no_grad():
                trainer.task.backbone.embed.token.weight[:] = float("nan")

    with after_each_step(poison):
        go(
            text,
            tmp_path / "run",
            "transformer_xl",
            train__save_interval=10,
            train__max_nonfinite_steps=2,
        )
    notes = [event["text"] for event in events(tmp_path / "run", "note")]
    assert any("back from step" in note for note in notes)
    last = events(tmp_path / "run", "evaluation")[-1]
    assert last["loss"] < 10


def test_evaluate_takes_a_memory(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(text, out, "transformer_xl")
    found = {}
    for memory in ("none", "0", "20", "200"):
        more = [] if memory == "none" else ["--memory", memory]
        code, result, err = command("evaluate", str(out), "--json", *more)
        assert code == 0, err
        found[memory] = json.loads(result)["loss"]
    assert found["none"] == found["20"]
    assert len({found["0"], found["20"], found["200"]}) == 3
    assert "--memory=-1" in refused("evaluate", str(out), "--memory", "-1")


def test_evaluate_refuses_a_memory_where_there_is_none(text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "plain", "2steps")
    assert "llama has no memory" in refused("evaluate", str(tmp_path / "plain"), "--memory", "5")
    go(text, tmp_path / "rnn", "rnn")
    assert "has no length" in refused("evaluate", str(tmp_path / "rnn"), "--memory", "5")
    assert command("evaluate", str(tmp_path / "rnn"), "--memory", "0")[0] == 0


def test_a_model_with_a_memory_is_not_compiled(text: Path, tmp_path: Path) -> None:
    go(text, tmp_path / "run", "transformer_xl", "2steps", runtime__compile=True)
    record = json.loads((tmp_path / "run" / "scriven.json").read_text())
    assert record["settings"]["runtime"]["compile"] is False
