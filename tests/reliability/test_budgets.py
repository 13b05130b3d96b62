"""A budget is kept: steps, epochs, tokens, wall clock also on a machine that slows down."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import scriven
from scriven.errors import SettingError
from scriven.runs.checkpoint import load_step
from scriven.train import train_step
from scriven.train.run import start_or_resume
from scriven.train.schedule import parse_budget
from scriven.train.stopping import Interrupted
from scriven.train.trainer import Trainer

from .runs import after_each_step, events, request, stopping_at, train


def test_steps_epochs_and_tokens_do_what_they_say(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "steps", "7steps").results["steps"] == 7
    tokens = train(text, tmp_path / "tokens", "2ktokens").results["tokens"]
    assert abs(tokens - 2000) <= 4 * 16 / 2
    run = train(text, tmp_path / "epochs", "1.5epochs")
    size = json.loads((run.folder / "scriven.json").read_text())["data"]["train_tokens"]
    assert abs(run.results["tokens"] - 1.5 * size) <= 4 * 16 / 2


def test_one_step_is_a_run(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "run", "1step").results["steps"] == 1


def test_seconds_before_the_first_step_bring_no_evaluation_forward(
    text: Path, tmp_path: Path
) -> None:
    slow_start = dataclasses.replace(
        request(text, tmp_path / "run", "60s"), began=time.monotonic() - 20
    )
    with stopping_at(4), pytest.raises(Interrupted):
        start_or_resume(slow_start)
    assert not events(tmp_path / "run", "evaluation")


@pytest.mark.parametrize("schedule", ["wsd", "linear", "cosine"])
def test_a_machine_that_slows_down_still_ends_decayed_at_the_deadline(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    budget = 6.0
    rates: list[float] = []
    began = time.monotonic()
    real = train_step.TrainStep.__call__

    def slow(self: train_step.TrainStep, *batch: object) -> train_step.StepMetrics:
        time.sleep(0.02 if time.monotonic() - began > budget / 2 else 0.001)
        made = real(self, *batch)  # type: ignore[arg-type]
        rates.append(self.optimizers.lr)
        return made

    monkeypatch.setattr(train_step.TrainStep, "__call__", slow)
    run = train(text, tmp_path / "run", f"{budget}s", optim__lr_schedule=schedule)
    took = time.monotonic() - began
    assert budget - 2.5 <= took <= budget + 2.0
    assert rates[-1] < 0.02 * max(rates)
    assert run.results["stopped"] == "budget"


def test_a_wall_clock_run_goes_on_to_the_same_end(text: Path, tmp_path: Path) -> None:
    """Not to a new budget, and never back to a higher rate."""
    out = tmp_path / "run"
    rates: list[float] = []

    def note(trainer: Trainer, state: object) -> None:
        rates.append(trainer.optimizers.lr)
        time.sleep(0.005)

    with after_each_step(note):
        with (
            after_each_step(lambda *_: time.sleep(0.005)),
            stopping_at(*range(100, 101)),  # far enough also on a slow machine
            pytest.raises(Interrupted),
        ):
            train(text, out, "5s")
        before = time.monotonic()
        count = len(rates)
        run = train(text, out, "5s")
    assert time.monotonic() - before < 5.0
    assert run.results["seconds"] < 7.0
    assert rates[count] <= rates[count - 1] * 1.01
    assert rates[-1] < 0.05 * max(rates)


def test_a_finished_wall_clock_run_is_not_trained_again(text: Path, tmp_path: Path) -> None:
    first = train(text, tmp_path / "run", "2s")
    assert train(text, tmp_path / "run", "2s").results == first.results


def test_early_stopping_leads_a_flat_schedule_to_its_decay(text: Path, tmp_path: Path) -> None:
    rates: list[float] = []
    with after_each_step(lambda trainer, _: rates.append(trainer.optimizers.lr)):
        run = train(text, tmp_path / "run", "4000steps", train__patience=2,
                    train__eval_interval=10, optim__lr=0.02)  # fmt: skip
    assert run.results["steps"] < 3900
    assert rates[-1] < 0.02 * max(rates)
    assert any("the learning rate falls" in event["text"] for event in events(run.folder, "note"))


def test_early_stopping_elsewhere_ends_and_stays_ended(text: Path, tmp_path: Path) -> None:
    settings = {"train__patience": 2, "train__eval_interval": 10, "optim__lr_schedule": "constant"}
    run = train(text, tmp_path / "run", "4000steps", **settings)
    assert run.results["stopped"] == "converged"
    assert run.results["steps"] < 3900
    assert request(text, tmp_path / "run").settings  # the same command says the same
    assert train(text, tmp_path / "run", "4000steps", **settings).results == run.results


@pytest.mark.parametrize(
    "budget", ["", "0m", "-1m", "nan", "1e999steps", "inf", "1e30tokens", "ten", "0.5steps", "5"]
)
def test_budgets_of_nothing_or_without_end_are_refused(budget: str) -> None:
    with pytest.raises(SettingError, match="use for example"):
        parse_budget(budget)


def test_the_best_score_is_not_computed_twice(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation of a large model takes long, and at the end nobody has time for it."""
    evaluate, losses = Trainer.evaluate, iter((2.0, 1.0, 3.0))

    def worse_at_the_end(self: Trainer, **given: Any) -> Any:
        score = evaluate(self, **given)
        assert score is not None
        return dataclasses.replace(score, loss=next(losses))

    monkeypatch.setattr(Trainer, "evaluate", worse_at_the_end)
    run = train(text, tmp_path / "run", "3steps", train__eval_interval=1)
    assert (run.results["best_step"], run.results["val_loss"]) == (2, 1.0)
    # and the published weights are those of that step
    best = load_step(tmp_path / "run", 2).tensors["model"]
    model = scriven.load(run.folder).task.state_dict()
    assert all(torch.equal(best[name], model[name]) for name in best)
