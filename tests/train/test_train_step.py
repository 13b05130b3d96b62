"""One update: micro-batches, clipping, and numbers that went bad."""

import copy

import pytest
import torch

from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.models import llama
from scriven.runtime import choose_runtime
from scriven.settings import OptimSettings, RuntimeSettings
from scriven.tasks.language import Language
from scriven.train.build_model import Parallel
from scriven.train.optim.base import Optimizers
from scriven.train.train_step import TrainStep

RUNTIME = choose_runtime(RuntimeSettings(device="cpu", dtype="float32"))


def task() -> Language:
    torch.manual_seed(0)
    made = Language(
        llama.Model(llama.Config(vocab_size=13, context_length=9, layers=2, d_model=32))
    )
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.2)
    return made.double()


def batch(masked: bool) -> Batch:
    rows = torch.randint(13, (8, 10), generator=torch.Generator().manual_seed(1))
    targets = rows[:, 1:].clone()
    if masked:  # rows of very different numbers of targets
        for row in range(8):
            targets[row, : row + 1] = IGNORE_INDEX
    return Batch(rows[:, :-1], targets)


def gradients(rows: int, masked: bool) -> tuple[list[torch.Tensor], float]:
    made = task()
    optimizers = Optimizers(made, OptimSettings(optimizer="sgd", lr=1e-3))
    kept: list[torch.Tensor] = []

    def keep(share: float) -> None:
        kept.extend(weight.grad.clone() for weight in optimizers.parameters)

    optimizers.step = keep  # type: ignore[method-assign]
    update = TrainStep(Parallel(made), optimizers, RUNTIME, grad_clip=0)(batch(masked), rows, 1.0)
    return kept, update.loss


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_micro_batches_equal_one_big_batch(rows: int, masked: bool) -> None:
    whole, loss = gradients(8, masked)
    parts, same = gradients(rows, masked)
    assert abs(loss - same) < 1e-12
    for one, other in zip(whole, parts, strict=True):
        assert (one - other).abs().max() <= 1e-12 * max(1.0, float(one.abs().max()))


def test_the_mean_of_means_would_be_noticed() -> None:
    """The classic bug: unequal micro-batches averaged as if they were equal."""
    made = task()
    data = batch(masked=True)
    whole = made(data)
    parts = [made(part) for part in data.split(3)]
    mean_of_means = sum(part.loss / part.tokens for part in parts) / len(parts)
    assert abs((whole.loss / whole.tokens - mean_of_means).item()) > 1e-3


def test_a_poisoned_gradient_leaves_the_weights_alone() -> None:
    for poison in (float("nan"), float("inf")):
        made = task()
        before = copy.deepcopy(made.state_dict())
        optimizers = Optimizers(made, OptimSettings(lr=1e-2))
        hook = made.backbone.norm.weight.register_hook(lambda g, p=poison: g * p)
        update = TrainStep(Parallel(made), optimizers, RUNTIME, grad_clip=1.0)(batch(False), 4, 1.0)
        assert not update.applied
        assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
        assert all(weight.grad is None for weight in made.parameters())
        hook.remove()
        assert TrainStep(Parallel(made), optimizers, RUNTIME, grad_clip=1.0)(
            batch(False), 4, 1.0
        ).applied


def test_clipping_limits_the_norm_over_all_weights() -> None:
    made = task()
    optimizers = Optimizers(made, OptimSettings(optimizer="sgd", beta1=0, weight_decay=0, lr=1.0))
    before = [weight.detach().clone() for weight in optimizers.parameters]
    update = TrainStep(Parallel(made), optimizers, RUNTIME, grad_clip=0.01)(batch(False), 8, 1.0)
    assert update.grad_norm > 0.01
    moved = torch.stack(
        [(w - b).norm() for w, b in zip(optimizers.parameters, before, strict=True)]
    ).norm()
    assert moved.item() == pytest.approx(0.01, rel=1e-4)


def test_a_batch_without_targets_is_no_nan_and_no_step() -> None:
    made = task()
    data = batch(False)
    empty = Batch(data.tokens, torch.full_like(data.targets, IGNORE_INDEX))
    optimizers = Optimizers(made, OptimSettings(weight_decay=0.5, lr=1e-2))
    updater = TrainStep(Parallel(made), optimizers, RUNTIME, grad_clip=1.0)
    updater(data, 4, 1.0)  # so that there is momentum
    before = copy.deepcopy(made.state_dict())
    update = updater(empty, 4, 1.0)
    assert update.loss == 0
    assert update.applied
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
