"""A run that gets a longer budget goes on from before its learning rate fell, bit for bit as if it
had had that budget from the start; the model before it stays until it is beaten."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriven.errors import InputError, SettingError
from scriven.evaluate.loss import Score
from scriven.model import load
from scriven.report.page import write_report
from scriven.report.run_log import read_run_log
from scriven.runs import checkpoint
from scriven.runs.metadata import read_metadata
from scriven.train.request import TrainRequest
from scriven.train.run import TrainResult, start_or_resume
from scriven.train.schedule import Budget, parse_budget
from scriven.train.stopping import Interrupted
from scriven.train.train_state import TrainState
from scriven.train.trainer import Trainer

from .finetuning import QUICK, done, labelled, write_lines
from .runs import arguments, command, digest, events, refused, stopping_at, train, write_text

FLAT: dict[str, Any] = {
    "optim__warmup_fraction": 0, "train__eval_interval": 7, "model__dropout": 0.1
}  # fmt: skip
"""Without warmup two runs of different budgets are the same until the learning rate falls."""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path, words=260)


def longer(run: Path, budget: str | None, **more: Any) -> TrainResult:
    """`scriven train --resume RUN --budget BUDGET`."""
    return start_or_resume(TrainRequest(resume=str(run), budget=budget, quiet=True, **more))


def tensors(folder: Path) -> dict[str, str]:
    """SHA-256 of weights, optimizer and random numbers of the newest checkpoint."""
    return {name: each for name, each in digest(folder).items() if name != "progress"}


def interrupted(begin: Callable[[], object], step: int) -> None:
    with stopping_at(step), pytest.raises(Interrupted):
        begin()


@pytest.mark.parametrize(
    ("first", "more", "whole"),
    [
        ("30steps", "+60steps", "90steps"),
        ("30steps", "90steps", "90steps"),
        ("2epochs", "+3epochs", "5epochs"),
        ("2ktokens", "+ 4k tokens", "6ktokens"),
    ],
)
def test_a_longer_run_is_the_run_that_had_the_budget_from_the_start(
    text: Path, tmp_path: Path, first: str, more: str, whole: str
) -> None:
    straight = train(text, tmp_path / "straight", whole, **FLAT).results
    before = train(text, tmp_path / "run", first, **FLAT).results
    found = longer(tmp_path / "run", more).results
    assert found["steps"] == straight["steps"] > before["steps"]
    assert found["val_loss"] == straight["val_loss"] < before["val_loss"]
    assert tensors(tmp_path / "run" / "branch-1") == tensors(tmp_path / "straight")
    assert checkpoint.steps(tmp_path / "run") == [], "of the first training nothing is left"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `short`, a run of 30 steps, and `straight`, the same with 60 more."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(write_text(folder, words=260), folder / "short", "30steps", **FLAT)
    shutil.copytree(folder / "short", folder / "straight")
    longer(folder / "straight", "+60steps")
    return folder


@pytest.mark.parametrize("again", ["+60steps", None])
@pytest.mark.parametrize("stop", [15, 16, 40, 89])
def test_an_interrupted_extension_resumes_bit_for_bit(
    undisturbed: Path, tmp_path: Path, stop: int, again: str | None
) -> None:
    run = tmp_path / "stopped"
    shutil.copytree(undisturbed / "short", run)
    interrupted(lambda: longer(run, "+60steps"), stop)
    longer(run, again)
    assert digest(run / "branch-1") == digest(undisturbed / "straight" / "branch-1")
    looks = [
        [(e["step"], e["loss"]) for e in events(each, "evaluation")]
        for each in (run, undisturbed / "straight")
    ]
    assert looks[0] == looks[1]
    assert len(events(run, "extension")) == 1


def test_a_kill_before_the_first_save_of_an_extension_loses_nothing(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(text, run, "30steps", **FLAT)
    published = (run / "model.safetensors").read_bytes()

    def killed(self: Trainer) -> TrainState:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "restore_or_init", killed)
        with pytest.raises(RuntimeError):
            longer(run, "+60steps")
    assert (run / "model.safetensors").read_bytes() == published
    assert load(run).generate("the", max_new_tokens=3)
    assert longer(run, None).results["steps"] == 90


def test_an_extended_run_can_be_extended_again(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(text, run, "20steps", **FLAT)
    longer(run, "+20steps")
    again = longer(run, "+20steps")
    assert again.results["steps"] == 60
    train(text, tmp_path / "straight", "60steps", **FLAT)
    assert tensors(run / "branch-2") == tensors(tmp_path / "straight")
    first, second = read_metadata(run)["extensions"]
    assert (first["from_step"], second["from_step"]) == (10, 20)
    assert second["results"]["steps"] == 40


def test_the_log_keeps_both_branches(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(text, run, "30steps", **FLAT)
    before = events(run, "evaluation")
    longer(run, "60steps")
    after = events(run, "evaluation")
    assert after[: len(before)] == before
    assert [each["step"] for each in after[len(before) :]] == [21, 28, 35, 42, 49, 56, 60]
    (begins,) = events(run, "extension")
    assert (begins["step"], begins["branch"]) == (15, 1)


def test_the_earlier_model_stays_until_it_is_beaten(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    before = train(text, run, "30steps", **FLAT).results
    published = (run / "model.safetensors").read_bytes()
    real = Trainer.evaluate

    def worse(self: Trainer, **given: Any) -> Score | None:
        score = real(self, **given)
        assert score is not None
        return score if score.loss == before["val_loss"] else Score(9.0, 0.0, 1, 9.0)

    monkeypatch.setattr(Trainer, "evaluate", worse)
    after = longer(run, "+30steps").results
    assert after["val_loss"] == before["val_loss"]
    assert after["best_step"] == before["best_step"]
    assert (run / "model.safetensors").read_bytes() == published
    assert any("the earlier model stays" in each["text"] for each in events(run, "note"))
    assert checkpoint.steps(run) == [before["best_step"]], "a third training can go back to it"
    monkeypatch.setattr(Trainer, "evaluate", real)
    assert longer(run, "+60steps").results["val_loss"] < before["val_loss"]


def test_the_state_before_the_decay_is_pruned_last(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(text, run, "40steps", train__save_interval=1, train__keep_checkpoints=1, **FLAT)
    assert 20 in checkpoint.steps(run)
    assert len(checkpoint.steps(run)) <= 3


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_schedule_without_a_flat_part_warms_up_again_and_says_so(
    text: Path, tmp_path: Path, schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    rates: list[float] = []
    options = {"optim__lr_schedule": schedule, "optim__warmup_fraction": 0.1}
    train(text, run, "30steps", train__log_seconds=0.001, **options)
    request = TrainRequest(resume=str(run), budget="+30steps", settings={"train.log_seconds": 1e-3})
    start_or_resume(request)
    assert (
        f"{schedule} has no flat part, so the learning rate warms up again"
        in capsys.readouterr().err
    )
    rates = [each["lr"] for each in events(run, "step")][-30:]
    peak = max(rates)
    assert rates[0] < 0.1 * peak
    assert rates.index(peak) <= 4
    assert rates[-1] < 0.1 * peak


def test_without_the_checkpoint_before_the_decay_it_warms_up_again(
    text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(text, run, "30steps", **FLAT)
    (run / "checkpoints" / "step-15" / "model.safetensors").write_bytes(b"damaged")
    assert longer(run, "+30steps").results["steps"] == 60
    (extension,) = read_metadata(run)["extensions"]
    assert (extension["from_step"], extension["rewarm"]) == (30, True)


def test_a_wall_clock_run_goes_on_by_the_clock(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = train(text, run, "2s").results
    after = longer(run, "+2s").results
    assert after["steps"] > before["steps"]
    assert after["seconds"] > 3.0  # how far beyond is for the load of the machine to say
    assert read_metadata(run)["settings"]["budget"] == {"unit": "seconds", "amount": 4.0}


def test_other_units_count_from_what_the_run_has_spent(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tokens = train(text, run, "30steps", **FLAT).results["tokens"]
    longer(run, "+640tokens")
    expected = {"unit": "tokens", "amount": tokens + 640}
    assert read_metadata(run)["settings"]["budget"] == expected


def test_budgets_that_add_nothing_are_told_in_one_line(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(text, run, "30steps", **FLAT)
    code, _, err = command("train", "--resume", str(run), "--budget", "30steps")
    assert (code, "--budget +30steps, to train it longer" in err) == (0, True)
    told = refused("train", "--resume", str(run), "--budget", "20steps", "--quiet")
    assert "has had 30steps already" in told
    assert f"--resume {run} --budget +20steps" in told
    told = refused(*arguments(text, run, "--quiet", budget="60steps"), "--optim.warmup_fraction=0")
    assert f"to train it longer, use --resume {run} --budget 60steps" in told
    assert "adds to a run that exists" in refused(
        *arguments(text, tmp_path / "new", "--quiet", budget="+1h")
    )
    assert not (tmp_path / "new").exists()


def test_an_unfinished_run_wants_more_of_the_same_unit(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupted(lambda: train(text, run, "30steps", **FLAT), 10)
    with pytest.raises(SettingError, match="has a budget of 30steps; add more steps"):
        longer(run, "+1h")
    assert longer(run, "+30steps").results["steps"] == 60
    assert "extensions" not in read_metadata(run), "its learning rate had not fallen"


def test_an_unfinished_run_in_its_decay_goes_back_to_the_flat_rate(
    text: Path, tmp_path: Path
) -> None:
    straight = train(text, tmp_path / "straight", "90steps", **FLAT).results
    run = tmp_path / "run"
    interrupted(lambda: train(text, run, "30steps", **FLAT), 25)
    assert longer(run, "90steps").results["val_loss"] == straight["val_loss"]


def test_a_run_without_checkpoints_cannot_go_on(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(text, run, "8steps", **FLAT)
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no checkpoint left to go on from"):
        longer(run, "+8steps")
    assert read_metadata(run)["results"] is not None


@pytest.mark.parametrize(
    "typed", ["90s", "10m", "2h", "1d", "2000steps", "3epochs", "50Mtokens", "1.5epochs", "2.5s"]
)
def test_a_budget_is_shown_as_it_is_typed(typed: str) -> None:
    assert str(parse_budget(typed)) == typed
    assert parse_budget(str(Budget("tokens", 123456))) == Budget("tokens", 123456)


def test_a_fine_tuning_is_trained_longer_by_the_same_command(base: Path, tmp_path: Path) -> None:
    table, out = write_lines(tmp_path / "t.jsonl", labelled()), tmp_path / "run"
    budgets = ("6steps", "+6steps", "12steps")
    before, after, again = (
        done("finetune", base, table, f"--out={out}", f"--budget={budget}", *QUICK[1:])
        for budget in budgets
    )
    assert after["steps"] == 2 * before["steps"]
    assert "the learning rate warms up again" in after["said"]
    assert "is finished" in again["said"]
    assert again["val_loss"] == after["val_loss"]


def test_the_report_shows_both_branches_and_what_the_first_cost(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(text, run, "30steps", **FLAT)
    longer(run, "60steps")
    log = read_run_log(run)
    assert [[point.step for point in branch] for branch in log.left] == [[21, 28, 30]]
    assert [point.step for point in log.evaluations] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    page = write_report(run).read_text(encoding="utf-8")
    assert "trained longer from here; the training before ended at step 30" in page
    assert "its last 15 steps" in page
    assert 'class="rate"' in page
    curve = (run / "README.md").read_text(encoding="utf-8")
    assert "| 60 |" in curve
    assert "| 30 |" not in curve, "that point is of the other branch"
