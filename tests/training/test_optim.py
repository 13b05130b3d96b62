"""Optimizers against torch's own, and their state there and back."""

import copy

import pytest
import torch

from scriven.errors import SettingError
from scriven.models import gpt2, llama
from scriven.settings import OptimSettings
from scriven.tasks.language import Language
from scriven.training.muon import Muon, orthogonalise
from scriven.training.optim import Optimizers, roles


def matrices() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 8), (8, 8), (12, 8), (8, 24)]
    return [torch.randn(s, generator=generator).requires_grad_() for s in shapes]


def run(optimizer: torch.optim.Optimizer, weights: list[torch.Tensor], steps: int = 20) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


def test_muon_equals_torchs_on_every_shape() -> None:
    ours, theirs = matrices(), matrices()
    run(Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1), ours)
    reference = torch.optim.Muon(
        theirs, lr=0.02, momentum=0.95, nesterov=True, weight_decay=0.1, adjust_lr_fn="original"
    )
    run(reference, theirs)
    for one, other in zip(ours, theirs, strict=True):
        # both round to bfloat16 inside, in another order of operations
        assert (one - other).abs().max() < 0.02 * 20 * 0.02
        assert (one - other).norm() / other.norm() < 2e-3


def test_muon_with_a_wrong_momentum_is_noticed() -> None:
    ours, theirs = matrices(), matrices()
    run(Muon(ours, lr=0.02, momentum=0.9, weight_decay=0.1), ours)
    run(torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1), theirs)
    assert any((a - b).norm() / b.norm() > 2e-3 for a, b in zip(ours, theirs, strict=True))


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    for shape in ((3, 16, 16), (2, 16, 48), (2, 48, 16)):
        update = orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        values = torch.linalg.svdvals(update.float())
        assert values.max() < 1.3
        assert values.mean() > 0.7


def task() -> Language:
    torch.manual_seed(0)
    made = Language(llama.Model(llama.Config(vocabulary=11, context=8, layers=2, width=32)))
    made.initialise()
    return made


def test_roles_split_by_what_a_weight_is() -> None:
    inside, tables, vectors = roles(task())
    assert all(".blocks." in name and w.dim() == 2 for name, w in inside.items())
    assert list(tables) == ["backbone.embed.token.weight"]
    assert all(w.dim() == 1 for w in vectors.values())


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_state_there_and_back_goes_on_bit_for_bit(name: str) -> None:
    one = task()
    first = Optimizers(one, OptimSettings(optimizer=name), 1e-2)
    step(one, first, 3)
    other = copy.deepcopy(one)
    second = Optimizers(other, OptimSettings(optimizer=name), 1e-2)
    tensors, numbers = first.state()
    second.restore({name: value.clone() for name, value in tensors.items()}, numbers)
    step(one, first, 4)
    step(other, second, 4)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_forgotten_state_is_noticed() -> None:
    one = task()
    first = Optimizers(one, OptimSettings(), 1e-2)
    step(one, first, 3)
    other = copy.deepcopy(one)
    second = Optimizers(other, OptimSettings(), 1e-2)
    step(one, first, 1)
    step(other, second, 1)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def step(model: Language, optimizers: Optimizers, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    for _ in range(count):
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizers.step(0.5)


def test_adamw_does_not_decay_vectors() -> None:
    made = Language(gpt2.Model(gpt2.Config(vocabulary=11, context=8, layers=1, width=16)))
    optimizers = Optimizers(made, OptimSettings(optimizer="adamw", weight_decay=0.3), 1e-2)
    decays = {
        id(weight): group["weight_decay"]
        for group in optimizers.parts[0].param_groups
        for weight in group["params"]
    }
    for weight in made.parameters():
        assert decays[id(weight)] == (0.3 if weight.dim() == 2 else 0.0)


def test_a_users_own_optimizer_is_taken_and_nonsense_refused() -> None:
    made = task()
    own = Optimizers(made, OptimSettings(), 0, lambda w: torch.optim.SGD(w, lr=0.1))
    assert isinstance(own.parts[0], torch.optim.SGD)
    foreign = torch.optim.SGD(task().parameters(), lr=0.1)
    for nonsense in (foreign, 3, lambda w: "adamw"):
        with pytest.raises(SettingError):
            Optimizers(made, OptimSettings(), 0, nonsense)
