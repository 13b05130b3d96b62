"""Every file in models/ keeps the contract; a new architecture is tested by being there."""

import math
from types import ModuleType

import pytest
import torch

from scriven import config, find
from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.models.shared.cost import build_empty, parameters_by_part
from scriven.models.shared.names import from_foreign, to_foreign
from scriven.tasks.language import Language
from scriven.training.optim import roles

V, T = 41, 24
SHAPE = {"vocabulary": V, "context": T, "layers": 3, "heads": 4, "width": 32}


@pytest.fixture(params=find.names("scriven.models"))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return find.module("scriven.models", request.param)


def make(module: ModuleType, *, random: bool = True, **changes: object) -> Language:
    torch.manual_seed(1)
    task = Language(module.Model(config.replace(module.Config(), {**SHAPE, **changes}, "model")))
    task.initialise()
    if random:  # weights that hide nothing: no zeros, no ones
        with torch.no_grad():
            for weight in task.parameters():
                weight.normal_(0, 0.2)
    return task.double().eval()


def tokens(rows: int = 3, length: int = T) -> torch.Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(2))


def test_hidden_states_have_the_shape_of_the_input(module: ModuleType) -> None:
    assert make(module).backbone(tokens()).shape == (3, T, 32)


@pytest.mark.parametrize("tied", [True, False])
def test_loss_at_the_start_is_the_log_of_the_vocabulary(module: ModuleType, tied: bool) -> None:
    task = make(module, random=False, tied=tied)
    x = tokens(16, T)
    output = task(Batch(x[:, :-1], x[:, 1:]))
    assert abs(output.loss.item() / output.tokens.item() / math.log(V) - 1) < 0.05


def test_a_later_token_never_changes_an_earlier_output(module: ModuleType) -> None:
    task, x = make(module), tokens()
    before = task.backbone(x)
    for t in range(T):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        after = task.backbone(changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.equal(before[:, t:], after[:, t:])


def test_cached_logits_equal_uncached_ones(module: ModuleType) -> None:
    task, x = make(module), tokens()
    with torch.no_grad():
        whole = task.logits(task.backbone(x))
        state = task.backbone.new_state(3, T)
        parts = [task.backbone(x[:, :7], state)]
        parts += [task.backbone(x[:, t : t + 1], state) for t in range(7, 15)]
        parts.append(task.backbone(x[:, 15:], state))
        assert (task.logits(torch.cat(parts, 1)) - whole).abs().max() < 1e-12


def test_a_cache_that_forgets_one_position_is_noticed(module: ModuleType) -> None:
    task, x = make(module), tokens()
    with torch.no_grad():
        whole = task.backbone(x)
        state = task.backbone.new_state(3, T)
        task.backbone(x[:, :7], state)
        for layer in state.layers:
            layer.own.keys[:, :, 3] = 0
        assert (task.backbone(x[:, 7:], state) - whole[:, 7:]).abs().max() > 1e-6


def test_left_padding_changes_nothing(module: ModuleType) -> None:
    task, x = make(module), tokens(2, 10)
    alone = [task.backbone(x[:1]), task.backbone(x[1:, 4:])]
    padded = x.clone()
    padded[1, :4] = 0
    at = torch.stack((torch.arange(10), torch.arange(-4, 6)))
    both = task.backbone(padded, at=at)
    assert (both[:1] - alone[0]).abs().max() < 1e-12
    assert (both[1:, 4:] - alone[1]).abs().max() < 1e-12
    assert both.isfinite().all()


def test_rows_do_not_see_each_other(module: ModuleType) -> None:
    task, x = make(module), tokens(4)
    together = task.backbone(x)
    for row in range(4):
        assert (together[row] - task.backbone(x[row : row + 1])[0]).abs().max() < 1e-12


def test_every_parameter_learns_and_has_one_optimizer_role(module: ModuleType) -> None:
    task, x = make(module), tokens()
    task(Batch(x[:, :-1], x[:, 1:])).loss.backward()
    for name, weight in task.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    groups = roles(task)
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in task.named_parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_foreign_names_there_and_back_are_bit_equal(module: ModuleType, tied: bool) -> None:
    task = make(module, tied=tied)
    settings = task.backbone.config
    ours = dict(task.state_dict())
    theirs = to_foreign(ours, module.NAMES, settings.layers, module.sizes(settings))
    back = from_foreign(theirs, module.NAMES, settings.layers)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_it_learns_a_batch_by_heart(module: ModuleType) -> None:
    task, x = make(module, random=False).float().train(), tokens(2, 12)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        output = task(Batch(x[:, :-1], x[:, 1:]))
        (output.loss / output.tokens).backward()
        optimizer.step()
    assert output.loss.item() / output.tokens.item() < 0.01


def test_counting_without_memory_equals_the_built_model(module: ModuleType) -> None:
    task = make(module)
    empty = build_empty(module, task.backbone.config, Language)
    assert all(weight.is_meta for weight in empty.parameters())
    assert sum(parameters_by_part(empty).values()) == sum(w.numel() for w in task.parameters())
    assert "other" not in parameters_by_part(empty)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 0}, {"heads": 0}, {"width": -1}, {"context": 0}, {"layers": 10**9},
        {"heads": 5}, {"dropout": 1.0}, {"width": 2**40}, {"dropout": -0.1},
    ],
)  # fmt: skip
def test_B9_impossible_shapes_are_refused_by_name(module: ModuleType, change: dict) -> None:
    with pytest.raises(SettingError) as caught:
        config.replace(module.Config(), {**SHAPE, **change}, "model")
    assert next(iter(change)) in str(caught.value)
    assert "\n" not in str(caught.value)
