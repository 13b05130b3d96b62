"""Going on with something else than before: allowed and said, or refused with the reason."""

import dataclasses
import itertools
import json
import os
import signal
import typing
from pathlib import Path

import pytest

from scriven import registry
from scriven.runs import checkpoint
from scriven.settings import Settings
from scriven.train.resume import FREE
from scriven.train.train_state import TrainState

from .runs import Child, after_each_step, arguments, command, refused, train

ARCHITECTURES = ("llama", "gpt2")
REGISTERED = {
    "optim.optimizer": "adamw", "optim.lr_schedule": "linear", "train.trackers": "jsonl",
    "model.rope_scaling": "linear:factor=2", "model.layer_types": "nope",
    "model.hf_class": "LlamaForCausalLM",
}  # fmt: skip
"""Settings that only some texts can be, with one that is not their default."""


def fields(architecture: str) -> list[tuple[str, object, object]]:
    """(name, type, default) of every setting there is."""
    kinds = {name: type(section) for name, section in vars(Settings()).items()}
    kinds["model"] = registry.module("scriven.models", architecture).Config
    return [
        (f"{section}.{field.name}", typing.get_type_hints(kind)[field.name], field.default)
        for section, kind in kinds.items()
        for field in dataclasses.fields(kind)
    ]


def another(kind: object, now: object) -> object:
    """A value of a type that is not the present one."""
    options = [each for each in (typing.get_args(kind) or (kind,)) if each is not type(None)]
    if options[0] is bool:
        return not now
    if options[0] is int:
        return int(now or 1) * 2  # type: ignore[call-overload]
    if options[0] is float:
        return 0.5 if now != 0.5 else 0.25
    if typing.get_origin(options[0]) is typing.Literal:
        options = list(typing.get_args(options[0]))
    if isinstance(options[0], str):
        return next(each for each in options if each != now)
    return "latin-1" if now == "utf-8" else "cuda" if now == "cpu" else "other"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_setting_is_free_or_refused(text: Path, tmp_path: Path, architecture: str) -> None:
    out = tmp_path / "run"
    line = [*arguments(text, out, budget="4steps"), f"--arch={architecture}"]
    assert command(*line)[0] == 0
    record = json.loads((out / "scriven.json").read_text())
    now = {"model": record["model"], **record["settings"]}
    seen = set()
    for name, kind, _ in fields(architecture):
        section, key = name.split(".")
        given = REGISTERED.get(name) or another(kind, now[section][key])
        asked = [part for part in line if not part.startswith(f"--{name}=")]
        seen.add(name)
        if name in FREE:
            code, _, err = command(*asked, f"--{name}={given}")
            assert code == 0, err
            assert f"--{name}={given}" in err or "finished" in err
        else:
            said = refused(*asked, f"--{name}={given}", "--json")
            assert f"--{name}" in said
            assert "--out" in said or "tokenizer's" in said, said
    assert seen >= FREE, "FREE names a setting that does not exist"


@pytest.mark.parametrize("flag", ["--seed=5", "--arch=gpt2", "--size=large", "--budget=3steps"])
def test_what_makes_another_run_is_refused(text: Path, tmp_path: Path, flag: str) -> None:
    out = tmp_path / "run"
    train(text, out, "4steps")
    name = flag.split("=")[0]
    line = [part for part in arguments(text, out, budget="4steps") if not part.startswith(name)]
    line = [part for part in line if not (name == "--size" and part.startswith("--model."))]
    said = refused(*line, flag)
    assert ("--resume" if name == "--budget" else "--out") in said  # a longer one is possible


def test_a_free_change_is_said_and_kept(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    Child(lambda: _kill_at(text, out, 10)).wait()
    code, _, err = command(*arguments(text, out, "--train.keep_checkpoints=3"))
    assert code == 0
    assert "changed: --train.keep_checkpoints=3 (was 2)" in err
    assert (
        json.loads((out / "scriven.json").read_text())["settings"]["train"]["keep_checkpoints"] == 3
    )


def test_an_impossible_free_change_is_refused(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    Child(lambda: _kill_at(text, out, 10)).wait()
    refused(*arguments(text, out, "--train.keep_checkpoints=0"))


def test_a_longer_budget_goes_on_with_what_is_there(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    Child(lambda: _kill_at(text, out, 10)).wait()
    code, _, err = command(*arguments(text, out, budget="50steps"))
    assert code == 0
    assert "changed: --budget 50steps" in err
    assert checkpoint.steps(out)[0] == 50


def _kill_at(text: Path, out: Path, step: int) -> None:
    def kill(trainer: object, state: TrainState) -> None:
        if state.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with after_each_step(kill):
        train(text, out, train__save_interval=4)


@pytest.mark.parametrize("finished", [True, False])
def test_one_more_byte_of_text_is_refused(text: Path, tmp_path: Path, finished: bool) -> None:
    out = tmp_path / "run"
    if finished:
        train(text, out, "4steps")
    else:
        Child(lambda: _kill_at(text, out, 10)).wait()
    with text.open("ab") as file:
        file.write(b"x")
    budget = "4steps" if finished else "40steps"
    assert "the text has changed" in refused(*arguments(text, out, "--quiet", budget=budget))


def test_another_text_is_refused(text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "run", "4steps")
    other = tmp_path / "other.txt"
    other.write_text("Quite another story, about the sea and a ship. " * 60)
    line = arguments(other, tmp_path / "run", "--quiet", budget="4steps")
    assert "another text" in refused(*line)


@pytest.mark.parametrize("change", ["--tokenizer.kind=byte", "--model.d_model=64"])
def test_another_vocabulary_or_shape_is_refused(text: Path, tmp_path: Path, change: str) -> None:
    train(text, tmp_path / "run", "4steps")
    line = [
        part
        for part in arguments(text, tmp_path / "run", budget="4steps")
        if not part.startswith(change.split("=")[0])
    ]
    assert change.split("=")[0] in refused(*line, change)


def test_the_values_of_these_tests_differ(text: Path) -> None:
    for architecture, (_, kind, default) in itertools.product(ARCHITECTURES, fields("llama")):
        assert architecture
        if default is not dataclasses.MISSING:
            assert another(kind, default) != default
