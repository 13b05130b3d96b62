"""The rules behind --size: what small trainings get, what large ones get, and that `train` and
`plan` get the same."""

import math

import pytest
import torch

from scriven.errors import SettingError
from scriven.format import model_size
from scriven.plan.planner import plan
from scriven.runtime import Runtime
from scriven.settings import OptimSettings, Settings, TokenizerSettings
from scriven.train import autoconfig as planning
from scriven.train.autoconfig import DatasetStats, TrainPlan, plan_pretraining
from scriven.train.optim.base import OptimizerModule
from scriven.train.scaling_laws import (
    SIZES,
    ModelShape,
    model_shape,
    parse_token_count,
    sequences_per_step,
    tokens_per_step,
)
from scriven.train.schedule import parse_budget

SMALL = {
    "1k": (2, 1, 32), "100k": (2, 2, 64), "250k": (2, 3, 96), "1M": (3, 6, 192), "4M": (4, 9, 288),
    "10M": (6, 12, 384), "12M": (6, 13, 416), "24M": (8, 16, 512),
}  # fmt: skip
"""Shapes that trainings were made with; the same command has to find them again."""


@pytest.mark.parametrize("size", SMALL)
def test_small_shapes_stay_what_they_were(size: str) -> None:
    assert model_shape(size) == ModelShape(*SMALL[size])


@pytest.mark.parametrize("size", ["25M", "60M", "124M", "350M", "1B", "3B", "7B", "70B", "10000B"])
def test_large_shapes_have_the_parameters_and_suit_a_gpu(size: str) -> None:
    shape = model_shape(size)
    wanted = float(size[:-1]) * {"M": 1e6, "B": 1e9}[size[-1]]
    assert 12 * shape.layers * shape.d_model**2 == pytest.approx(wanted, rel=0.06)
    assert shape.d_model % 128 == 0
    assert shape.d_model / shape.heads == (64 if shape.d_model < 2048 else 128)
    assert 50 < shape.d_model / shape.layers < 140


@pytest.mark.parametrize(
    ("size", "layers", "d_model"),
    [("1.2B", 24, 2048), ("2.5B", 32, 2560), ("6.4B", 32, 4096), ("174B", 96, 12288)],
)
def test_large_shapes_are_near_those_of_gpt3(size: str, layers: int, d_model: int) -> None:
    """Brown et al. 2020, table 2.1; sizes are those of its blocks."""
    shape = model_shape(size)
    assert shape.layers == pytest.approx(layers, rel=0.3)
    assert shape.d_model == pytest.approx(d_model, rel=0.2)


@pytest.mark.parametrize("parameters", [1e3, 1.04e6, 9.99e6, 0.9999e9, 1.2345e9, 7e10])
def test_a_model_size_is_written_as_it_is_read(parameters: float) -> None:
    text = model_size(parameters)
    model_shape(text)
    factor = {"k": 1e3, "M": 1e6, "B": 1e9}[text[-1]]
    assert float(text[:-1]) * factor == pytest.approx(parameters, rel=0.05)


def test_batches_of_small_trainings_stay_what_they_were() -> None:
    assert tokens_per_step(False, 1e12, 1e12) == 2048
    assert tokens_per_step(True, None, 1e12) == 32768, "seconds and steps"
    assert tokens_per_step(True, 1e12, 1_000_000) == 32768, "a short text, read very often"


def test_the_batch_of_a_gpu_grows_with_the_tokens() -> None:
    sizes = [tokens_per_step(True, 10.0**n, 10.0**n) for n in range(5, 14)]
    assert sizes == sorted(sizes)
    assert all(math.log2(size).is_integer() for size in sizes)
    assert tokens_per_step(True, 20e9, 20e9) == 524_288
    # doubling the tokens multiplies by 2^0.383, seen over a factor that is a power of two
    assert tokens_per_step(True, 20e9 * 2 ** (3 / 0.383), 1e15) == 8 * 524_288


def test_rows_leave_a_short_text_different_ones() -> None:
    assert sequences_per_step(2048, 256, 1e6) == 8
    assert sequences_per_step(2048, 256, 3000) == 2
    assert sequences_per_step(100, 256, 10) == 1


def test_learning_rates_of_matrices_and_of_the_rest() -> None:
    muon, adamw, sgd = (OptimizerModule(name) for name in ("muon", "adamw", "sgd"))
    assert muon.default_lr(128) == 3e-3
    assert adamw.default_lr(512) == pytest.approx(1e-3)
    assert sgd.default_lr(512) == sgd.default_lr(512, short_run=True) == 0.1
    assert muon.lrs(OptimSettings(), 512) == {"matrices": 0.02, "rest": pytest.approx(1.5e-3)}
    assert adamw.lrs(OptimSettings("adamw", lr=0.5), 64) == {"matrices": 0.5, "rest": 0.5}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("9B", 9e9), ("300G", 3e11), ("5Mtokens", 5e6), ("1000", 1e3), ("44GB", 1e10), ("2T", 2e12),
     ("4400bytes", 1e3), ("4.4kb", 1e3), ("1e9", 1e9)],
)  # fmt: skip
def test_amounts_of_text_are_read(text: str, tokens: float) -> None:
    assert parse_token_count(text) == pytest.approx(tokens)


@pytest.mark.parametrize("text", ["", "much", "-3B", "0", "1.2.3B", "nan", "3 cows", "1e30"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="--tokens"):
        parse_token_count(text)


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU that is planned for is not this machine, whose memory therefore says nothing."""
    monkeypatch.setattr(planning, "available_memory", lambda _: None)


def trained(size: str | None, budget: str, tokens: float, device: str) -> TrainPlan:
    """What `train` would do with a text of so many tokens."""
    kind = torch.device("cuda" if device != "cpu" else "cpu")
    text = DatasetStats(16384, TokenizerSettings(), int(tokens), int(tokens) // 10)
    return plan_pretraining(
        "llama", {}, Settings(), parse_budget(budget), 0, text,
        Runtime(kind, torch.bfloat16, 1, {}), size=size,
    )  # fmt: skip


@pytest.mark.parametrize("size", ["tiny", "small", "1M", "12M", "30M"])
@pytest.mark.parametrize("device", ["h100", "cpu"])
def test_train_and_plan_follow_the_same_rules(size: str, device: str) -> None:
    planned = plan(size, device=device, peak=1.0, budget="600Mtokens")
    made = trained(size, "600Mtokens", 600e6, device)
    shape = {
        name: planned["model"][name] for name in ("layers", "heads", "d_model", "context_length")
    }
    assert shape == {name: getattr(made.model, name) for name in shape}
    assert planned["batch_size"] == made.settings.train.batch_size
    assert planned["steps"] == made.steps
    assert planned["learning_rates"]["rest"] == made.settings.optim.lr
    assert planned["learning_rates"]["matrices"] == made.settings.optim.muon_lr


def test_a_grown_batch_is_computed_in_portions() -> None:
    made = trained("12M", "600Mtokens", 600e6, "h100")
    assert made.settings.train.batch_size == 128
    assert made.settings.train.micro_batch_size == 32


@pytest.mark.parametrize("size", SIZES)
def test_a_gpu_with_little_text_trains_as_before(size: str) -> None:
    made = trained(size, "10m", 1e6, "h100")
    assert made.settings.train.batch_size == made.settings.train.micro_batch_size == 128
    assert made.model.context_length == 256


@pytest.mark.parametrize(
    ("size", "budget", "shape", "context", "rate"),
    [
        (None, "39s", (2, 3, 96), 128, 6e-3),
        (None, "40s", (3, 4, 128), 256, 3e-3),
        (None, "89s", (3, 4, 128), 256, 3e-3),
        (None, "90s", (4, 4, 128), 256, 3e-3),
        (None, "120s", (4, 4, 128), 512, 3e-3),
        (None, "39steps", (4, 4, 128), 512, 3e-3),
        ("small", "39s", (4, 4, 128), 128, 3e-3),
    ],
)
def test_seconds_alone_have_a_shape_windows_and_a_rate_of_their_own(
    size: str | None, budget: str, shape: tuple[int, ...], context: int, rate: float
) -> None:
    made = trained(size, budget, 1e6, "cpu")
    assert (made.model.layers, made.model.heads, made.model.d_model) == shape
    assert made.model.context_length == context
    assert made.settings.optim.lr == rate
