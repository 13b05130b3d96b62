"""A loss that jumps is told, and on request not trained on."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from scriven.data.batch import Batch
from scriven.train.spikes import FIRST_STEPS, follow_loss, spike_limit
from scriven.train.train_state import TrainState
from scriven.train.train_step import StepMetrics
from scriven.train.trainer import Trainer

from .runs import events, stopping_at, train, whole

AT = 150
SETTINGS = {"train__save_interval": 10, "train__eval_interval": 25, "train__log_seconds": 0}


@contextmanager
def corrupt_batch(*steps: int) -> Iterator[None]:
    """Other targets than the text has, at these steps."""
    real = Trainer.next_batch

    def next_batch(self: Trainer, state: TrainState) -> Batch:
        batch = real(self, state)
        if state.step + 1 in steps:
            batch.targets.fill_(int(self.dataset.tokenizer.vocab_size) - 1)
        return batch

    Trainer.next_batch = next_batch  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.next_batch = real  # type: ignore[method-assign]


def notes(folder: Path) -> list[str]:
    return [event["text"] for event in events(folder, "note")]


@pytest.mark.parametrize("skip", [False, True])
def test_a_corrupt_batch_is_told_and_skipped_on_request(
    text: Path, tmp_path: Path, skip: bool
) -> None:
    with corrupt_batch(AT):
        run = train(text, tmp_path / "run", "170steps", train__skip_spikes=skip, **SETTINGS)
    (note,) = notes(run.folder)
    assert note.startswith(f"step {AT}: the loss of ")
    assert ("; step skipped" in note) == skip
    logged = {event["step"]: event["loss"] for event in events(run.folder, "step")}
    assert (logged[AT] is None) == skip
    assert logged[AT + 1] is not None
    quiet = train(text, tmp_path / "quiet", "170steps", **SETTINGS)
    assert notes(quiet.folder) == []


def test_going_on_remembers_what_a_usual_loss_is(text: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "train__skip_spikes": True}
    with corrupt_batch(AT):
        train(text, tmp_path / "straight", "170steps", **settings)
        with stopping_at(AT - 5), pytest.raises(KeyboardInterrupt):
            train(text, tmp_path / "run", "170steps", **settings)
        train(text, tmp_path / "run", "170steps", **settings)
    assert whole(tmp_path / "run") == whole(tmp_path / "straight")
    assert any("step skipped" in note for note in notes(tmp_path / "run"))


def step_of(loss: float) -> StepMetrics:
    return StepMetrics(loss, 0.0, 1.0, True, 1)


def losses(count: int, level: float, noise: float, seed: int = 0) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return (level + noise * torch.randn(count, generator=generator)).tolist()


def test_the_averages_are_those_of_the_last_steps() -> None:
    state = TrainState()
    for loss in losses(2000, 3.0, 0.2):
        follow_loss(state, step_of(loss))
    assert state.loss_mean == pytest.approx(3.0, abs=0.1)
    assert math.sqrt(state.loss_variance) == pytest.approx(0.2, rel=0.5)
    assert spike_limit(state) == pytest.approx(3.0 + 6 * 0.2, rel=0.2)


def test_noise_is_no_spike_and_a_jump_is_one() -> None:
    state, spikes = TrainState(), 0
    for step, loss in enumerate(losses(5000, 2.0, 0.1)):
        jump = 2.0 if step % 500 == 499 else 0.0
        spikes += loss + jump > spike_limit(state)
        follow_loss(state, step_of(loss + jump))
    assert spikes == 10


def test_a_loss_that_stays_high_is_the_usual_one_before_long() -> None:
    state = TrainState()
    for loss in losses(300, 2.0, 0.1):
        follow_loss(state, step_of(loss))
    steps = 0
    while spike_limit(state) < 5.0:
        follow_loss(state, step_of(5.0))
        steps += 1
    assert 3 < steps < 100


def test_none_of_the_first_steps_is_a_spike() -> None:
    state = TrainState()
    for _ in range(FIRST_STEPS):
        assert spike_limit(state) == math.inf
        follow_loss(state, step_of(1.0))
    assert 1.0 < spike_limit(state) < 1.1
