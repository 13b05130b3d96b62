"""Going on is bit for bit what never stopping is: weights, optimizer, random numbers, results."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scriven.train import checkpointer
from scriven.train.run import start_or_resume
from scriven.train.stopping import Interrupted

from .runs import request, stopping_at, train, whole, write_text

STEPS = 60
"""A pass through the text is about 15 steps here, so this ends in the fourth or later."""
RUNS: dict[str, dict[str, object]] = {
    "llama-muon": {},
    "llama-adamw-micro": {"optim__optimizer": "adamw", "train__micro_batch_size": 1},
    "gpt2-muon-micro": {"arch": "gpt2", "train__micro_batch_size": 3},
    "gpt2-adamw": {"arch": "gpt2", "optim__optimizer": "adamw"},
    "llama-sgd": {"optim__optimizer": "sgd", "optim__lr_schedule": "cosine"},
}
_straight: dict[str, dict[str, str]] = {}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A short text, so that there are many passes."""
    return write_text(tmp_path, words=260)


def go(text: Path, out: Path, name: str) -> None:
    settings = dict(RUNS[name])
    arch = settings.pop("arch", "llama")
    made = request(
        text, out, f"{STEPS}steps", model__dropout=0.2, train__save_seconds=1000,
        train__eval_interval=7, **settings,
    )  # fmt: skip
    start_or_resume(replace(made, arch=str(arch)))


def check(text: Path, folder: Path, name: str, stops: list[int]) -> None:
    if name not in _straight:
        go(text, folder / "straight", name)
        _straight[name] = whole(folder / "straight")
    out = folder / "stopped"
    with stopping_at(*stops):
        for _ in stops:
            with pytest.raises(Interrupted):
                go(text, out, name)
        go(text, out, name)
    assert whole(out) == _straight[name]


def test_an_epoch_is_as_long_as_these_tests_say(text: Path, tmp_path: Path) -> None:
    """Otherwise no stop would be in epoch 3 or later."""
    tokens = train(text, tmp_path / "run", "1epochs").results["tokens"]
    assert tokens <= STEPS * 4 * 16 / 3


# 13 and 20 are followed by an evaluation, which the signal takes away
@pytest.mark.parametrize("stop", [0, 13, 20, 44, 59])
@pytest.mark.parametrize("name", ["llama-muon", "gpt2-muon-micro"])
def test_resume_is_bit_exact(text: Path, tmp_path: Path, name: str, stop: int) -> None:
    check(text, tmp_path, name, [stop])


def test_resume_is_bit_exact_after_many_stops(text: Path, tmp_path: Path) -> None:
    check(text, tmp_path, "llama-adamw-micro", [3, 6, 7, 30, 55])


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_resume_is_bit_exact_at_fifty_points(text: Path, tmp_path: Path, name: str) -> None:
    for number, stop in enumerate(random.Random(name).sample(range(STEPS), 10)):
        check(text, tmp_path / str(number), name, [stop])


def test_the_comparison_would_notice_another_random_state(text: Path, tmp_path: Path) -> None:
    go(text, tmp_path / "straight", "llama-muon")
    with stopping_at(30), pytest.raises(Interrupted):
        go(text, tmp_path / "stopped", "llama-muon")
    real = checkpointer.restore_rng_state
    checkpointer.restore_rng_state = lambda *_: torch.manual_seed(7)
    try:
        go(text, tmp_path / "stopped", "llama-muon")
    finally:
        checkpointer.restore_rng_state = real
    assert whole(tmp_path / "stopped") != whole(tmp_path / "straight")
