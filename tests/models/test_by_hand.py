"""examples/by_hand.py, in NumPy, against Scriven's models in float64: loss, gradients, AdamW."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scriven import registry
from scriven.data.batch import Batch
from scriven.settings import OptimSettings
from scriven.tasks.language import Language
from scriven.train.optim.base import Optimizers

HAND = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "by_hand.py"))
V, T, LR = 29, 11, 1e-3
SHAPE: dict[str, Any] = {
    "vocab_size": V, "context_length": T, "layers": 2, "d_model": 24, "heads": 4, "d_ff": 40,
}  # fmt: skip
KINDS = [("gpt2", 4), ("llama", 4), ("llama", 2), ("llama", 1)]


def pair(arch: str, kv_heads: int) -> tuple[Any, Language]:
    """The model by hand, and Scriven's with the same random weights, in float64."""
    module = registry.module("scriven.models", arch)
    extra = {"kv_heads": kv_heads} if arch == "llama" else {}
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)  # also for the tables of rotary positions
    try:
        task = Language(module.Model(module.Config(**SHAPE, **extra)), special={"eos": 0})
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():  # weights that hide nothing, also in norms and biases
        for weight in task.parameters():
            weight.normal_(0.1, 0.2)
    weights = {name: w.detach().numpy().copy() for name, w in task.backbone.named_parameters()}
    config = HAND["Config"](arch, **SHAPE, kv_heads=kv_heads)
    assert {name: w.shape for name, w in weights.items()} == config.shapes()
    return HAND["GPT"](config, weights), task


def rows(seed: int, length: int = T) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, V, (3, length + 1)))


def losses(hand: Any, task: Language, windows: torch.Tensor) -> tuple[float, float]:
    """Loss by hand and Scriven's, with the gradients of both filled in."""
    output = task(Batch(windows[:, :-1], windows[:, 1:]))
    loss = output.loss / output.tokens
    loss.backward()
    ids = windows.numpy()
    return hand.loss(ids[:, :-1], ids[:, 1:]), loss.item()


def largest_difference(hand: Any, task: Language) -> float:
    """Of any gradient, relative to the largest gradient of the same weight."""
    named = dict(task.backbone.named_parameters())
    assert named.keys() == hand.gradients.keys()
    differences = []
    for name, weight in named.items():
        assert weight.grad is not None
        exact = weight.grad.numpy()
        differences.append(np.abs(hand.gradients[name] - exact).max() / np.abs(exact).max())
    return float(max(differences))


@pytest.mark.parametrize(("arch", "kv_heads"), KINDS)
@pytest.mark.parametrize("length", [T, 5])
def test_loss_and_every_gradient_are_those_of_scriven(
    arch: str, kv_heads: int, length: int
) -> None:
    hand, task = pair(arch, kv_heads)
    loss, exact = losses(hand, task, rows(0, length))
    assert loss == pytest.approx(exact, rel=1e-10)
    assert largest_difference(hand, task) < 1e-10


@pytest.mark.parametrize(("arch", "kv_heads"), KINDS)
def test_three_steps_of_adamw_are_those_of_scriven(arch: str, kv_heads: int) -> None:
    hand, task = pair(arch, kv_heads)
    ours = HAND["AdamW"]()
    theirs = Optimizers(task, OptimSettings(optimizer="adamw", lr=LR))
    for step in range(3):
        losses(hand, task, rows(step))
        ours.step(hand.weights, hand.gradients, LR)
        theirs.step(1.0)
    # the gradient of the bias of the keys is 0, as softmax ignores what all its scores share; Adam
    # divides what rounding leaves of it, 1e-17, by 1e-10, so this is not equal to the last digit
    for name, weight in task.backbone.named_parameters():
        assert np.abs(hand.weights[name] - weight.detach().numpy()).max() < 1e-9


@pytest.mark.parametrize(
    ("arch", "layer"), [("gpt2", "gelu"), ("llama", "swiglu"), ("llama", "rotate")]
)
def test_a_wrong_backward_is_noticed(
    arch: str, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer whose gradient passes through as if it were the identity, or half of it."""
    hand, task = pair(arch, 4)
    right = HAND[layer]

    def planted(x: Any) -> Any:
        y, backward = right(x)
        return y, lambda dy: 0.5 * backward(dy) if layer != "rotate" else dy

    # the functions of the example look names up in their own globals
    monkeypatch.setitem(HAND["GPT"].attention.__globals__, layer, planted)
    loss, exact = losses(hand, task, rows(0))
    assert loss == pytest.approx(exact, rel=1e-10)
    assert largest_difference(hand, task) > 1e-3


def test_it_stays_short() -> None:
    source = Path(HAND["__file__"]).read_text(encoding="utf-8")
    assert len(source.splitlines()) < 300
