"""Schedules and budgets against closed forms."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.evaluate.loss import Score
from scriven.settings import OptimSettings, Settings, TrainSettings
from scriven.train.schedule import (
    SCHEDULES,
    Budget,
    TrainingHorizon,
    lr_multiplier,
    parse_budget,
    sequence_splits,
)
from scriven.train.stopping import stop_early
from scriven.train.train_state import Run, TrainState


@pytest.mark.parametrize("name", ["wsd", "linear", "cosine"])
def test_a_schedule_ends_at_zero_and_never_exceeds_the_peak(name: str) -> None:
    settings = OptimSettings(lr_schedule=name, warmup_fraction=0.1)
    values = [lr_multiplier(settings, p / 1000) for p in range(1001)]
    assert values[-1] < 1e-9
    assert max(values) <= 1.0
    assert values[50] == pytest.approx(0.5, abs=2e-3)  # half-way through the warm-up
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(values[100:]))


def test_shapes_equal_their_formulas() -> None:
    for p in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert SCHEDULES["cosine"](p, 0.5) == pytest.approx((1 + math.cos(math.pi * p)) / 2)
        assert SCHEDULES["linear"](p, 0.5) == pytest.approx(1 - p)
        assert SCHEDULES["constant"](p, 0.5) == 1
    assert SCHEDULES["wsd"](0.3, 0.5) == 1
    assert SCHEDULES["wsd"](0.75, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("10m", "seconds", 600), ("90s", "seconds", 90), ("2h", "seconds", 7200),
        ("1.5h", "seconds", 5400), ("2000steps", "steps", 2000), ("1step", "steps", 1),
        ("3epochs", "epochs", 3), ("0.5epochs", "epochs", 0.5), ("50Mtokens", "tokens", 5e7),
        ("50mtokens", "tokens", 5e7), ("1e6tokens", "tokens", 1e6), ("2k steps", "steps", 2000),
    ],
)  # fmt: skip
def test_budgets_are_read(text: str, unit: str, amount: float) -> None:
    assert parse_budget(text) == Budget(unit, amount)


@pytest.mark.parametrize(
    "text", ["", "10", "m", "0m", "-3m", "10x", "1.2.3m", "nan", "0steps", "ten minutes", "1e9"]
)
def test_a_budget_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingError, match="10m, 2h, 2000steps"):
        parse_budget(text)


def test_a_horizon_in_seconds_follows_the_clock_whatever_the_steps() -> None:
    horizon = TrainingHorizon(steps=None, seconds=100, eval_reserve=10)
    assert horizon.progress(1, 45) == pytest.approx(0.5)
    assert horizon.progress(10_000, 45) == pytest.approx(0.5)
    assert horizon.progress(1, 90) == 1


def test_a_schedule_begins_at_the_first_step_however_long_the_text_took() -> None:
    state = TrainState()
    run: Any = SimpleNamespace(
        plan=SimpleNamespace(budget=Budget("seconds", 100.0), steps=None), is_rewarmed=False
    )
    horizon = Run.horizon(run, state, 40.0)
    assert horizon.progress(0, 40.0) == 0 and horizon.progress(9, 97.0) == 1
    # a run that resumes after some steps keeps its schedule
    state.step = 5
    assert Run.horizon(run, state, 70.0) == horizon


def test_an_early_decay_ends_the_run_as_if_it_had_been_planned_so() -> None:
    horizon = TrainingHorizon(steps=1000, seconds=0)
    horizon.start_early_decay(200, 0, flat=0.5)
    planned = TrainingHorizon(steps=400, seconds=0)
    for step in range(200, 401, 25):
        assert horizon.progress(step, 0) == pytest.approx(planned.progress(step, 0))
    clock = TrainingHorizon(steps=None, seconds=110, eval_reserve=10)
    clock.start_early_decay(0, 40, flat=0.8)
    assert clock.progress(0, 40) == pytest.approx(0.8)
    assert clock.progress(0, 50) == pytest.approx(1)
    assert clock.seconds_left(0, 40, pace=0) == pytest.approx(20)


@pytest.mark.parametrize(("initial_length", "step", "decays"), [(None, 40, True), (16, 40, False)])
def test_evaluations_longer_than_the_sequences_of_training_do_not_end_a_run(
    initial_length: int | None, step: int, decays: bool
) -> None:
    """At positions that no sequence has reached yet, a loss rises however well training goes."""
    settings = Settings(train=TrainSettings(patience=3, initial_context_length=initial_length))
    state = TrainState(step=step, evals_without_improvement=3)
    score = Score(loss=2.0, accuracy=0.5, tokens=1, bits_per_byte=2.0)
    text = stop_early(state, score, TrainingHorizon(steps=100, seconds=0), 0.0, settings)
    assert bool(state.early_end) == (text is not None) == decays
    assert state.evals_without_improvement == 0


@pytest.mark.parametrize("initial_length", [None, 16])
def test_early_stopping_counts_once_sequences_are_long(initial_length: int | None) -> None:
    optim = OptimSettings(lr_schedule="constant")
    train = TrainSettings(patience=3, initial_context_length=initial_length)
    state = TrainState(step=60, evals_without_improvement=3)
    score = Score(loss=2.0, accuracy=0.5, tokens=1, bits_per_byte=2.0)
    horizon = TrainingHorizon(steps=100, seconds=0)
    assert stop_early(state, score, horizon, 0.0, Settings(train=train, optim=optim))
    assert state.converged


@pytest.mark.parametrize("flat", [0.6, None])
def test_a_run_that_is_to_finish_early_decays_until_then(flat: float | None) -> None:
    steps = TrainingHorizon(steps=1000, seconds=0)
    steps.finish_within(50, 200, 0, flat)
    assert steps.progress(200, 0) == pytest.approx(flat or 0.2)
    assert steps.progress(225, 0) == pytest.approx((1 + (flat or 0.2)) / 2)
    assert steps.progress(249, 0) < 1 == steps.progress(250, 0)
    clock = TrainingHorizon(steps=None, seconds=100, eval_reserve=4)
    clock.finish_within(10, 7, 48, flat)
    assert clock.progress(8, 57.9) < 1 == clock.progress(9, 58)
    # a resumed run knows it from its checkpoint
    again = TrainingHorizon(None, 100, 4, 0.0, clock.early_end)
    assert again.progress(8, 53) == pytest.approx(clock.progress(8, 53))


def test_a_run_is_never_made_longer() -> None:
    horizon = TrainingHorizon(steps=1000, seconds=0)
    horizon.finish_within(300, 800, 0, 0.9)
    assert (horizon.early_end, horizon.progress(800, 0)) == ((), 0.8)


def test_epochs_and_tokens_become_steps() -> None:
    assert Budget("epochs", 3).total_steps(100, 1000) == 30
    assert Budget("tokens", 5000).total_steps(100, 1000) == 50
    assert Budget("seconds", 60).total_steps(100, 1000) is None
    assert Budget("tokens", 3).total_steps(100, 1000) == 1


def test_windows_grow_in_equal_stages_and_are_whole_for_the_second_half() -> None:
    found = [sequence_splits(512, 128, share) for share in (0, 0.24, 0.25, 0.49, 0.5, 1)]
    assert found == [4, 4, 2, 2, 1, 1]
    assert (
        sequence_splits(512, None, 0)
        == sequence_splits(512, 512, 0)
        == sequence_splits(512, 4096, 0)
        == 1
    )
    assert sequence_splits(96, 10, 0) == 8, "pieces of 12 tokens: no shorter than asked for"
    assert sequence_splits(81, 9, 0) == 1, "an odd window has no equal halves"


def test_pieces_of_a_batch_are_its_rows_cut() -> None:
    tokens = torch.arange(24).view(2, 12)
    cut = Batch(tokens, tokens + 1).split_sequences(3)
    assert cut.tokens.tolist()[1] == [4, 5, 6, 7]
    assert cut.targets.tolist()[5] == [21, 22, 23, 24]
    assert (cut.num_targets(), cut.num_tokens) == (24, 24)
