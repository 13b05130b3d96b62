"""Every file in models/ keeps the contract; a new architecture is tested by being there."""

import dataclasses
import math
from types import ModuleType

import pytest
import torch

from scriven import config, registry
from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.models.base import BASES
from scriven.models.shared.cost import build_empty, parameters_by_part
from scriven.nn.cache import Cache, KVCache
from scriven.tasks.base import BaseTask
from scriven.train.optim.base import param_groups

V, T = 41, 24
SHAPE = {"vocab_size": V, "context_length": T, "layers": 3, "heads": 4, "d_model": 32}
SPECIAL = {"eos": V - 3, "pad": V - 2, "mask": V - 1}

NAMES = registry.names("scriven.models", BASES)
MODULES = {name: registry.module("scriven.models", name) for name in NAMES}


def task_class(module: ModuleType) -> type[BaseTask]:
    return registry.module("scriven.tasks", module.Model.pretraining_task).Task


WRITERS = [name for name in NAMES if task_class(MODULES[name]).is_generative]
FILLERS = [name for name in NAMES if name not in WRITERS]


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return MODULES[request.param]


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> ModuleType:
    return MODULES[request.param]


def shape(module: ModuleType, **changes: object) -> dict[str, object]:
    fields = {field.name for field in dataclasses.fields(module.Config)}
    return {name: value for name, value in {**SHAPE, **changes}.items() if name in fields}


def make(module: ModuleType, *, random: bool = True, **changes: object) -> BaseTask:
    torch.manual_seed(1)
    made = config.replace(module.Config(), shape(module, **changes), "model")
    task = task_class(module)(module.Model(made), special=SPECIAL)
    task.init_weights()
    if random:  # weights that hide nothing: no zeros, no ones
        with torch.no_grad():
            for weight in task.parameters():
                weight.normal_(0, 0.2)
    return task.double().eval()


def tokens(rows: int = 3, length: int = T) -> torch.Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(2))


def source(task: BaseTask, rows: int) -> torch.Tensor | None:
    """What an encoder reads; None where there is none."""
    return tokens(rows, 9).flip(1) if hasattr(task.backbone, "encoder") else None


def read(task: BaseTask, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
    return task.hidden(Batch(x, x, positions=positions, source=source(task, x.size(0))))


def start(task: BaseTask, rows: int) -> Cache:
    """An empty state, after the source was read."""
    state = task.backbone.new_cache(rows, T)
    encoded = source(task, rows)
    if encoded is not None:
        task.backbone.encode_source(encoded, None, state)
    return state


def test_hidden_states_have_the_shape_of_the_input(module: ModuleType) -> None:
    assert read(make(module), tokens()).shape == (3, T, 32)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_loss_at_the_start_is_the_log_of_the_vocabulary(
    module: ModuleType, tie_embeddings: bool
) -> None:
    task = make(module, random=False, tie_embeddings=tie_embeddings)
    windows = tokens(64, task.window)
    output = task(task.training_batch(windows, 0, 1))
    assert abs(output.loss.item() / output.tokens.item() / math.log(V) - 1) < 0.05


def test_a_later_token_never_changes_an_earlier_output(writer: ModuleType) -> None:
    task, x = make(writer), tokens()
    before = read(task, x)
    for t in range(T):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        after = read(task, changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.equal(before[:, t:], after[:, t:])


@pytest.mark.parametrize("name", FILLERS)
def test_a_model_that_fills_gaps_sees_both_sides(name: str) -> None:
    task, x = make(MODULES[name]), tokens()
    before = read(task, x)
    for t in (0, T // 2, T - 1):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        assert (read(task, changed) != before).any(-1).all()


def test_cached_logits_equal_uncached_ones(writer: ModuleType) -> None:
    task, x = make(writer), tokens()
    with torch.no_grad():
        whole = task.logits(read(task, x))
        state = start(task, 3)
        parts = [task.backbone(x[:, :7], state)]
        parts += [task.backbone(x[:, t : t + 1], state) for t in range(7, 15)]
        parts.append(task.backbone(x[:, 15:], state))
        assert (task.logits(torch.cat(parts, 1)) - whole).abs().max() < 1e-12


def test_a_state_that_forgets_one_position_is_noticed(writer: ModuleType) -> None:
    task, x = make(writer), tokens()
    with torch.no_grad():
        whole = read(task, x)
        state = start(task, 3)
        task.backbone(x[:, :7], state)
        for layer in state.layers:
            if isinstance(layer.self_attn, KVCache):
                layer.self_attn.keys[:, :, 3] = 0
            else:
                for tensor in layer.recurrent.tensors().values():
                    tensor[..., 3] = 0
        assert (task.backbone(x[:, 7:], state) - whole[:, 7:]).abs().max() > 1e-6


@pytest.mark.parametrize("kept", [True, False], ids=["slots", "planted bug: one position"])
def test_rows_stand_at_positions_of_their_own(writer: ModuleType, kept: bool) -> None:
    """What follows a shorter row, and what was taken back, is never seen."""
    task, x = make(writer), tokens()
    state, lengths = start(task, 3), torch.tensor([7, 3, 5])
    if not state.supports_ragged:
        return
    with torch.no_grad():
        whole = read(task, x)
        task.backbone(x[:, :7], state)
        for step in range(0, 12, 3):
            positions = lengths[:, None] + step + torch.arange(5)
            right = torch.stack([row[place] for row, place in zip(x, positions, strict=True)])
            tried = right.clone()
            tried[:, 3:] = 1  # two wrong guesses
            found = task.backbone(tried, state, positions if kept else positions[:1].expand(3, 5))
            wanted = torch.stack([row[place] for row, place in zip(whole, positions, strict=True)])
            equal = (found - wanted)[:, :3].abs().max() < 1e-12
            assert equal == kept
            state.truncate(7 + step + 3)


@pytest.mark.parametrize("sizes", [(6, 6, 6, 6), (8, 8, 8), (1, 5, 2, 16)])
def test_segment_by_segment_equals_the_whole(writer: ModuleType, sizes: tuple[int, ...]) -> None:
    """With a memory of the whole text; the others keep it in their cache."""
    task, x = make(writer), tokens()
    state = task.backbone.recurrent_state(3, T) or start(task, 3)
    with torch.no_grad():
        whole = read(task, x)
        parts = [task.backbone(part, state) for part in x.split(sizes, 1)]
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-12


def test_a_memory_that_is_too_short_is_noticed(writer: ModuleType) -> None:
    task, x = make(writer), tokens()
    state = task.backbone.recurrent_state(3, 2)
    if state is None or task.backbone.max_position is None:
        return  # nothing to shorten
    with torch.no_grad():
        parts = [task.backbone(part, state) for part in x.split(6, 1)]
    assert (torch.cat(parts, 1) - read(task, x)).abs().max() > 1e-6


def test_left_padding_changes_nothing(module: ModuleType) -> None:
    task, x = make(module), tokens(2, 10)
    encoded = source(task, 2)

    def row(part: slice, start: int) -> torch.Tensor:
        own = None if encoded is None else encoded[part]
        return task.hidden(Batch(x[part, start:], x[part, start:], source=own))

    alone = [row(slice(0, 1), 0), row(slice(1, 2), 4)]
    padded = x.clone()
    padded[1, :4] = 0
    positions = torch.stack((torch.arange(10), torch.arange(-4, 6)))
    both = task.hidden(Batch(padded, padded, positions=positions, source=encoded))
    assert (both[:1] - alone[0]).abs().max() < 1e-12
    assert (both[1:, 4:] - alone[1]).abs().max() < 1e-12
    assert both.isfinite().all()


def test_rows_do_not_see_each_other(module: ModuleType) -> None:
    task, x = make(module), tokens(4)
    encoded = source(task, 4)
    together = read(task, x)
    for row in range(4):
        part = slice(row, row + 1)
        own = None if encoded is None else encoded[part]
        alone = task.hidden(Batch(x[part], x[part], source=own))
        assert (together[row] - alone[0]).abs().max() < 1e-12


def test_every_parameter_learns_and_has_one_optimizer_role(module: ModuleType) -> None:
    task = make(module)
    task(task.training_batch(tokens(16, task.window), 0, 1)).loss.backward()
    for name, weight in task.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    groups = param_groups(task)
    names = [*groups.matrices, *groups.other_weights, *groups.vectors]
    assert sorted(names) == sorted(name for name, _ in task.named_parameters())


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_hf_weights_there_and_back_are_bit_equal(module: ModuleType, tie_embeddings: bool) -> None:
    task = make(module, tie_embeddings=tie_embeddings)
    settings = task.backbone.config
    if module.Model.to_hf_config(settings) is None:
        return  # saved under our own names
    ours = dict(task.state_dict())
    back = module.Model.from_hf_weights(settings, module.Model.to_hf_weights(settings, ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_it_learns_a_batch_by_heart(module: ModuleType) -> None:
    task = make(module, random=False).float().train()
    batch = task.training_batch(tokens(2, task.window), 0, 1)
    optimizer = torch.optim.AdamW(task.parameters(), lr=6e-3)
    for _ in range(1000):
        optimizer.zero_grad()
        output = task(batch)
        if output.loss < 0.05 * output.tokens:
            return
        (output.loss / output.tokens).backward()
        optimizer.step()
    raise AssertionError(f"still {output.loss.item() / output.tokens.item():.3f} nats per token")


def test_counting_without_memory_equals_the_built_model(module: ModuleType) -> None:
    task = make(module)
    empty = build_empty(module, task.backbone.config, task_class(module))
    assert all(weight.is_meta for weight in empty.parameters())
    assert sum(parameters_by_part(empty).values()) == sum(w.numel() for w in task.parameters())
    assert "other" not in parameters_by_part(empty)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 0}, {"heads": 0}, {"d_model": -1}, {"context_length": 0}, {"layers": 10**9},
        {"heads": 5}, {"dropout": 1.0}, {"d_model": 2**40}, {"dropout": -0.1},
    ],
)  # fmt: skip
def test_impossible_shapes_are_refused_by_name(module: ModuleType, change: dict) -> None:
    name = next(iter(change))
    known = name in {field.name for field in dataclasses.fields(module.Config)}
    with pytest.raises(SettingError) as caught:
        config.replace(module.Config(), {**shape(module), **change}, "model")
    assert name in str(caught.value) or not known
    assert "\n" not in str(caught.value)
