"""An interrupted fine-tuning goes on bit for bit with the same command, and with no other one."""

import json
import os
import random
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriven.errors import InputError
from scriven.runs import checkpoint
from scriven.train import build_model, checkpointer, table_dataset, trainer
from scriven.train import finetune as finetune_module
from scriven.train.request import TrainRequest
from scriven.train.run import TrainResult
from scriven.train.run import start_or_resume as finetune
from scriven.train.stopping import Interrupted

from .finetuning import QUICK, base_run, labelled, sentence, tuned, write_lines
from .runs import Child, after_each_step, command, newest, refused, stopping_at, whole
from .test_signals import before, signal_once

STEPS = 24
KINDS = {
    # name: architecture, task, further settings
    "classify": ("llama", "classify", {}),
    "classify-micro": ("llama", "classify", {"train.micro_batch_size": 1}),
    "classify-head": ("llama", "classify", {"finetune.weights": "head"}),
    "classify-lora": ("llama", "classify", {"finetune.weights": "lora", "finetune.lora_rank": 2}),
    "dpo": ("llama", "dpo", {}),
    "dpo-lora": ("llama", "dpo", {"finetune.weights": "lora", "finetune.lora_rank": 2}),
    "translate": ("transformer", "translate", {}),
    "translate-lora": (
        "transformer",
        "translate",
        {"finetune.weights": "lora", "finetune.lora_rank": 2},
    ),
}
_straight: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: base_run(folder, name) for name in ("llama", "transformer")}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    pairs = [{"source": sentence(n), "target": sentence(n + 7)} for n in range(20)]
    choices = [
        {"prompt": sentence(n), "chosen": sentence(n + 7), "rejected": sentence(n + 3)}
        for n in range(20)
    ]
    return {
        "dpo": write_lines(folder / "choices.jsonl", choices),
        "classify": write_lines(folder / "labels.jsonl", labelled(20)),
        "translate": write_lines(folder / "pairs.jsonl", pairs),
    }


def asked(kind: str, bases: dict[str, Path], tables: dict[str, Path], out: Path) -> TrainRequest:
    arch, task, more = KINDS[kind]
    settings: dict[str, object] = {
        "model.dropout": 0.2,
        "train.batch_size": 4,
        "train.eval_interval": 5,
        "train.save_seconds": 1000,
        "train.sample_seconds": 0,
        "train.patience": 0,
        "runtime.dtype": "float32",
        "runtime.threads": 1,
        **more,
    }
    return TrainRequest([str(tables[task])], base=str(bases[arch]), budget=f"{STEPS}steps",
                        out=str(out), quiet=True, settings=settings)  # fmt: skip


@pytest.fixture
def go(bases: dict[str, Path], tables: dict[str, Path]) -> Callable[[str, Path], TrainResult]:
    return lambda kind, out: finetune(asked(kind, bases, tables, out))


@pytest.fixture
def straight(go: Any, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """What an uninterrupted run leaves behind."""

    def found(kind: str) -> dict[str, str]:
        if kind not in _straight:
            go(kind, tmp_path / "straight")
            _straight[kind] = whole(tmp_path / "straight")
        return _straight[kind]

    return found


# ------------------------------------------------------------------ stopped, and gone on with


STOPS = [*((kind, [4, 11]) for kind in KINDS), ("classify", [0]), ("classify", [23])]


@pytest.mark.parametrize(("kind", "stops"), STOPS)
def test_a_stopped_fine_tuning_goes_on_bit_for_bit(
    go: Any, straight: Any, tmp_path: Path, kind: str, stops: list[int]
) -> None:
    wanted, out = straight(kind), tmp_path / "stopped"
    with stopping_at(*stops):
        for _ in stops:
            with pytest.raises(Interrupted):
                go(kind, out)
        go(kind, out)
    assert whole(out) == wanted


def test_killed_at_random_instants_it_goes_on_bit_for_bit(
    straight: Any, bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    wanted, out, chance = straight("classify"), tmp_path / "killed", random.Random(2)
    saves, again = [], asked("classify", bases, tables, out)
    vars(again)["settings"] = {**again.settings, "train.save_interval": 2}
    for _ in range(20):
        if saves and saves[-1] > 12:
            break
        with after_each_step(lambda *_: time.sleep(0.01)):
            child = Child(lambda: finetune(again))
        child.pause(chance.uniform(0.1, 0.4))
        child.kill()
        status, said = child.wait()
        saves.append(newest(out))
        if status == 0:
            break  # it was faster than the kill
        assert status == -signal.SIGKILL, said
    assert saves == sorted(saves)
    finetune(again)
    assert whole(out) == wanted


PHASES: dict[str, tuple[Any, str]] = {
    "reading": (finetune_module, "load_table"),
    "building": (build_model, "build_task"),
    "step": (trainer.Trainer, "next_batch"),
    "baseline": (table_dataset, "baseline_scores"),
    "evaluation": (trainer, "evaluate_loss"),
    "save": (checkpoint, "build_manifest"),
    "publishing": (checkpointer, "save_pretrained"),
    "results": (table_dataset, "score_rows"),
    "record": (checkpointer, "write_metadata"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_any_phase_leaves_a_run_that_goes_on(
    go: Any, straight: Any, tmp_path: Path, phase: str
) -> None:
    wanted, out = straight("classify"), tmp_path / "run"

    def action() -> None:
        with before(*PHASES[phase], signal_once(signal.SIGTERM)):
            go("classify", out)

    status, said = Child(action).wait()
    assert status == 143, said
    if "saved at step" in said:
        assert "go on with: scriven finetune " in said
    go("classify", out)
    assert whole(out) == wanted


def test_the_command_that_is_printed_goes_on(
    go: Any, straight: Any, bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    wanted, out = straight("classify"), tmp_path / "a run"
    with stopping_at(9), pytest.raises(Interrupted) as stopped:
        go("classify", out)
    said = str(stopped.value)
    assert said.startswith("saved at step 10; go on with: scriven finetune ")
    again = shlex.split(said.partition("go on with: ")[2])
    code, _, err = command(*again[1:], "--quiet")
    assert code == 0, err
    assert whole(out) == wanted


def test_train_resume_names_the_command_instead(go: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with stopping_at(9), pytest.raises(Interrupted):
        go("classify", out)
    assert "`scriven finetune " in refused("train", "--resume", str(out))


def test_a_stopped_control_goes_on_with_the_whole_command(
    bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    parts = ["finetune", str(bases["llama"]), str(tables["classify"]), "--control", *QUICK]
    straight = ["--out", str(tmp_path / "straight")]
    assert command(*parts, *straight)[0] == 0
    stopped = ["--out", str(tmp_path / "stopped")]
    with before(
        trainer.Trainer, "next_batch", signal_at(9, signal.SIGTERM)
    ):  # the third of the control
        code, _, err = command(*parts, *stopped)
    assert code == 143, err
    line = err.strip().splitlines()[-1]
    again = shlex.split(line.partition("go on with: ")[2])
    assert "--control" in again
    code, out, err = command(*again[1:], "--json")
    assert code == 0, err
    assert json.loads(out)["control"]["steps"] == 6
    for name in ("straight", "stopped"):
        assert (tmp_path / name / "control" / "scriven.json").exists()
    assert whole(tmp_path / "stopped" / "control") == whole(tmp_path / "straight" / "control")
    assert whole(tmp_path / "stopped") == whole(tmp_path / "straight")
    # all is there: the same command gives it once more
    again_out = json.loads(command(*again[1:], "--json")[1])
    assert again_out["control"]["val_scores"] == json.loads(out)["control"]["val_scores"]


def signal_at(call: int, number: int) -> Callable[..., None]:
    """Sends this process a signal when called for that time."""
    calls = iter(range(1, 10**6))

    def send(*_: object, **__: object) -> None:
        if next(calls) == call:
            os.kill(os.getpid(), number)

    return send


# ------------------------------------------------------------------ the same command, and others


def test_a_finished_run_says_so_and_gives_its_results(
    bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    first = tuned(bases["llama"], tables["classify"], out=tmp_path / "run")
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and path.name != "report.html"
    }
    again = tuned(bases["llama"], tables["classify"], out=tmp_path / "run")
    assert "is finished; use --out NEW" in again.pop("said")
    first.pop("said")
    assert again == first
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize("finished", [True, False])
def test_another_fine_tuning_in_the_same_folder_is_refused(
    go: Any, bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path, finished: bool
) -> None:
    out = tmp_path / "run"
    if finished:
        go("classify", out)
    else:
        with stopping_at(9), pytest.raises(Interrupted):
            go("classify", out)
    kept = whole(out) if finished else newest(out)
    made = asked("classify", bases, tables, out)
    line = made.command
    parts = shlex.split(line)[1:]

    def says(*more: str, instead: dict[str, str] | None = None) -> str:
        changed = [(instead or {}).get(part, part) for part in parts]
        return refused(*changed, *more, "--json")

    other = write_lines(tmp_path / "other.jsonl", labelled(21))
    assert "on other rows" in says(instead={str(tables["classify"]): str(other)})
    assert "from another model" in says(instead={str(bases["llama"]): str(bases["transformer"])})
    assert "is a run for classify, not translate" in says(
        instead={str(tables["classify"]): str(tables["translate"])}
    )
    twice = write_lines(tmp_path / "twice.jsonl",
                        [{**row, "summary": row["label"]} for row in labelled(20)])  # fmt: skip
    assert "is a run for classify, not summarize" in says(
        "--task=summarize", instead={str(tables["classify"]): str(twice)}
    )
    assert "--seed 0, not 3" in says("--seed=3")
    for name, value in [
        ("model.dropout", "0.5"),
        ("optim.lr", "0.5"),
        ("train.batch_size", "8"),
        ("finetune.lm_loss_weight", "0"),
        ("finetune.weights", "head"),
        ("data.val_fraction", "0.3"),
        ("optim.optimizer", "sgd"),
    ]:
        kept_parts = [part for part in parts if not part.startswith(f"--{name}=")]
        said = refused(*kept_parts, f"--{name}={value}", "--json")
        assert f"--{name}" in said
        assert "--out NEW" in said
    assert "on other rows" in says(f"--validation={other}")
    assert (whole(out) if finished else newest(out)) == kept
    refused("train", str(tables["classify"]), f"--out={out}")


def test_the_base_may_be_called_by_another_path(
    go: Any, straight: Any, bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    wanted, out = straight("classify"), tmp_path / "run"
    with stopping_at(9), pytest.raises(Interrupted):
        go("classify", out)
    other = tmp_path / "moved"
    shutil.copytree(bases["llama"], other)
    finetune(asked("classify", {**bases, "llama": other}, tables, out))
    assert whole(out) == wanted


def test_a_base_that_was_trained_on_is_another_model(
    bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    mine = tmp_path / "base"
    shutil.copytree(bases["llama"], mine)
    out = tmp_path / "run"
    with stopping_at(9), pytest.raises(Interrupted):
        finetune(asked("classify", {"llama": mine}, tables, out))
    shutil.rmtree(mine)
    shutil.copytree(base_run(tmp_path, steps=3), mine)
    with pytest.raises(InputError, match="from another model"):
        finetune(asked("classify", {"llama": mine}, tables, out))


@pytest.mark.parametrize("kind", ["classify", "classify-lora", "translate"])
def test_a_base_that_is_gone_is_not_needed_to_go_on(
    straight: Any, bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    wanted, out, arch = straight(kind), tmp_path / "run", KINDS[kind][0]
    mine = tmp_path / "base"
    shutil.copytree(bases[arch], mine)
    made = asked(kind, {arch: mine}, tables, out)
    with stopping_at(9), pytest.raises(Interrupted):
        finetune(made)
    shutil.rmtree(mine)
    finetune(made)
    assert whole(out) == wanted
    # the finished run as well
    assert finetune(made).results["steps"] == STEPS
    with pytest.raises(InputError, match="no run"):
        finetune(asked(kind, {arch: mine}, tables, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_base_that_is_gone_before_the_first_save_is_asked_for(
    bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    mine, out = tmp_path / "base", tmp_path / "run"
    shutil.copytree(bases["llama"], mine)
    made = asked("classify", {"llama": mine}, tables, out)

    def action() -> None:
        with before(trainer.Trainer, "restore_or_init", signal_once(signal.SIGKILL)):
            finetune(made)

    assert Child(action).wait()[0] == -signal.SIGKILL
    assert (out / "scriven.json").exists()
    assert checkpoint.steps(out) == []
    shutil.rmtree(mine)
    with pytest.raises(InputError, match="no run"):
        finetune(made)
    shutil.copytree(bases["llama"], mine)
    finetune(made)
    assert newest(out) == STEPS


def test_a_longer_budget_goes_on_and_is_kept(
    go: Any, bases: dict[str, Path], tables: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with stopping_at(9), pytest.raises(Interrupted):
        go("classify", out)
    made = asked("classify", bases, tables, out)
    vars(made)["budget"] = "30steps"
    with stopping_at(12), pytest.raises(Interrupted) as stopped:
        finetune(made)
    assert "--budget 30steps" in str(stopped.value)
    assert finetune(made).results["steps"] == 30
    record = json.loads((out / "scriven.json").read_text())
    assert record["settings"]["steps"] == 30
