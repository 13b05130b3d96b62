"""Optimizers against torch's own, and their state there and back."""

import copy

import pytest
import torch

from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.models import gpt2, llama
from scriven.settings import OptimSettings
from scriven.tasks.language import Language
from scriven.train.optim.base import Optimizers, param_groups
from scriven.train.optim.muon import Muon, newton_schulz


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


JORDAN = [(3.4445, -4.7750, 2.0315)] * 5
"""The iterations of torch.optim.Muon."""


def test_muon_equals_torchs_on_every_shape() -> None:
    ours, theirs = matrices(), matrices()
    run(Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1, coefficients=JORDAN), ours)
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
    run(Muon(ours, lr=0.02, momentum=0.9, weight_decay=0.1, coefficients=JORDAN), ours)
    run(torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1), theirs)
    assert any((a - b).norm() / b.norm() > 2e-3 for a, b in zip(ours, theirs, strict=True))


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 16), (2, 16, 48), (2, 48, 16)):
        given = torch.randn(shape, generator=generator)
        values = torch.linalg.svdvals(newton_schulz(given, precision=torch.float32))
        sizes = torch.linalg.svdvals(given)
        is_seen = sizes / sizes.norm(dim=-1, keepdim=True) >= 0.01
        assert is_seen.float().mean() > 0.9
        assert 0.72 < values[is_seen].min() < values[is_seen].max() < 1.28
        rounded = torch.linalg.svdvals(newton_schulz(given).float())
        assert (rounded - values).abs().max() < 0.1  # the digits of bfloat16
        assert rounded.max() < 1.3
        assert rounded.mean() > 0.7


def task() -> Language:
    torch.manual_seed(0)
    made = Language(
        llama.Model(llama.Config(vocab_size=11, context_length=8, layers=2, d_model=32))
    )
    made.init_weights()
    return made


def test_roles_split_by_what_a_weight_is() -> None:
    groups = param_groups(task())
    assert all(".blocks." in name and w.dim() == 2 for name, w in groups.matrices.items())
    assert list(groups.other_weights) == ["backbone.embed.token.weight"]
    assert all(w.dim() == 1 for w in groups.vectors.values())


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_state_there_and_back_goes_on_bit_for_bit(name: str) -> None:
    one = task()
    first = Optimizers(one, OptimSettings(optimizer=name, lr=1e-2))
    step(one, first, 3)
    other = copy.deepcopy(one)
    second = Optimizers(other, OptimSettings(optimizer=name, lr=1e-2))
    tensors, numbers = first.state()
    second.restore({name: value.clone() for name, value in tensors.items()}, numbers)
    step(one, first, 4)
    step(other, second, 4)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_forgotten_state_is_noticed() -> None:
    one = task()
    first = Optimizers(one, OptimSettings(lr=1e-2))
    step(one, first, 3)
    other = copy.deepcopy(one)
    second = Optimizers(other, OptimSettings(lr=1e-2))
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
    made = Language(gpt2.Model(gpt2.Config(vocab_size=11, context_length=8, layers=1, d_model=16)))
    optimizers = Optimizers(made, OptimSettings(optimizer="adamw", weight_decay=0.3, lr=1e-2))
    decays = {
        id(weight): group["weight_decay"]
        for group in optimizers.optimizers[0].param_groups
        for weight in group["params"]
    }
    for weight in made.parameters():
        assert decays[id(weight)] == (0.3 if weight.dim() == 2 else 0.0)


def test_a_users_own_optimizer_is_taken_and_nonsense_refused() -> None:
    made = task()
    own = Optimizers(made, OptimSettings(), lambda w: torch.optim.SGD(w, lr=0.1))
    assert isinstance(own.optimizers[0], torch.optim.SGD)
    foreign = torch.optim.SGD(task().parameters(), lr=0.1)
    for nonsense in (foreign, 3, lambda w: "adamw"):
        with pytest.raises(SettingError):
            Optimizers(made, OptimSettings(), nonsense)


OPTIMIZERS = ["muon", "adamw", "sgd"]


def frozen(which: str) -> Language:
    """A task of which only the weights learn that have `which` in their name."""
    made = task()
    for name, weight in made.named_parameters():
        weight.requires_grad_(which in name)
    return made


def learn(model: Language, optimizers: Optimizers, steps: int) -> None:
    """Updates by real gradients."""
    for number in range(steps):
        generator = torch.Generator().manual_seed(number)
        tokens = torch.randint(11, (2, 8), generator=generator)
        model(Batch(tokens, tokens.roll(-1, 1))).loss.backward()
        optimizers.step(0.5)


@pytest.mark.parametrize("which", [".blocks.0.mlp", "norm", "token", ".attention."])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_weights_are_left_out(name: str, which: str) -> None:
    """Also where no matrix, or nothing but matrices, is left."""
    made = frozen(which)
    before = {each: weight.clone() for each, weight in made.state_dict().items()}
    optimizers = Optimizers(made, OptimSettings(optimizer=name, weight_decay=0.3, lr=1e-2))
    assert optimizers.names
    assert all(which in each for each in optimizers.names)
    learn(made, optimizers, 3)
    moved = {each for each, w in made.state_dict().items() if not torch.equal(w, before[each])}
    assert moved
    assert moved <= set(optimizers.names)


@pytest.mark.parametrize("which", [".blocks.", "token"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_a_partly_frozen_model_goes_there_and_back(name: str, which: str) -> None:
    one = frozen(which)
    first = Optimizers(one, OptimSettings(optimizer=name, lr=1e-2))
    learn(one, first, 3)
    other = frozen(which)
    other.load_state_dict(one.state_dict())
    second = Optimizers(other, OptimSettings(optimizer=name, lr=1e-2))
    tensors, numbers = first.state()
    second.restore({key: value.clone() for key, value in tensors.items()}, numbers)
    learn(one, first, 2)
    learn(other, second, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


TABLE = "backbone.embed.token.weight"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_held_rows_stay_bit_for_bit_and_count_for_nothing(name: str) -> None:
    """The others learn exactly as they would if the held ones were no weights at all."""
    made, free = task(), task()
    before = made.get_parameter(TABLE).clone()
    settings = OptimSettings(optimizer=name, weight_decay=0.3, lr=1e-2)
    optimizers, plain = Optimizers(made, settings), Optimizers(free, settings)
    optimizers.freeze_rows(TABLE, 7)
    tokens = torch.arange(11).repeat(2, 1)[:, :8]
    batch = Batch(tokens, tokens.roll(-1, 1))
    made(batch).loss.backward()
    made(batch).loss.backward()  # as micro-batches do
    for _ in range(2):
        free(batch).loss.backward()
    grad, whole = made.get_parameter(TABLE).grad, free.get_parameter(TABLE).grad
    assert grad is not None
    assert whole is not None
    assert not grad[:7].any()
    assert torch.equal(grad[7:], whole[7:])
    whole[:7] = 0
    optimizers.step(0.5)
    plain.step(0.5)
    after = made.get_parameter(TABLE)
    assert torch.equal(after[:7], before[:7])
    assert torch.equal(after[7:], free.get_parameter(TABLE)[7:])
    assert not torch.equal(after[7:], before[7:])
    learn(made, optimizers, 3)
    assert torch.equal(made.get_parameter(TABLE)[:7], before[:7])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_gradient_of_zero_alone_does_not_hold_rows(name: str) -> None:
    """Planted: without writing them back, decay moves them."""
    made = task()
    before = made.get_parameter(TABLE).clone()
    optimizers = Optimizers(made, OptimSettings(optimizer=name, weight_decay=0.3, lr=1e-2))
    optimizers.freeze_rows(TABLE, 7)
    optimizers.frozen_rows.clear()
    learn(made, optimizers, 3)
    assert not torch.equal(made.get_parameter(TABLE)[:7], before[:7])
