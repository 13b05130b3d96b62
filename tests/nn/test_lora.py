"""Adapters against the formula written out, on every architecture; merged ones against adapted."""

from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scriven import registry
from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.models.base import BASES
from scriven.nn.lora import (
    LoraAdapter,
    LoraLinear,
    add_lora,
    lora_adapters,
    merge_lora,
    merged_state_dict,
)
from scriven.tasks.base import BaseTask

V, T = 29, 12
NAMES = registry.names("scriven.models", BASES)
RECURRENT = ("rnn", "gru", "lstm")


def make(name: str, dtype: torch.dtype = torch.float64, **changes: Any) -> BaseTask:
    """A task with random weights that hide nothing."""
    module = registry.module("scriven.models", name)
    shape = {
        "vocab_size": V,
        "context_length": T,
        "layers": 2,
        "heads": 4,
        "d_model": 16,
        **changes,
    }
    if name == "rnn":
        del shape["heads"]
    torch.manual_seed(0)
    kind = registry.module("scriven.tasks", module.Model.pretraining_task).Task
    special = {"eos": V - 3, "pad": V - 2, "mask": V - 1}
    task: BaseTask = kind(module.Model(module.Config(**shape)), special=special)
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.2)
    return task.to(dtype).eval()


def adapted(name: str, rank: int = 3, **changes: Any) -> BaseTask:
    """`make` with adapters that do something, cut as the twin's matrices are."""
    task = make(name, **changes)
    module: ModuleType = registry.module("scriven.models", name)
    if name == "llama":
        queries, keys, _ = module.Model.fused_sizes(task.backbone.config)["qkv"]
        cuts = {
            f"backbone.blocks.{n}.attention.qkv.weight": [queries, keys, keys] for n in range(2)
        }
    else:
        cuts = {}
    add_lora(task, rank, parts=cuts)
    with torch.no_grad():
        for one in lora_adapters(task).values():
            one.b.normal_(0, 0.2)
    return task


def batch(task: BaseTask) -> Batch:
    tokens = torch.randint(V - 3, (3, T), generator=torch.Generator().manual_seed(1))
    reads = hasattr(task.backbone, "encoder")
    return Batch(tokens, tokens.roll(-1, 1), source=tokens.flip(1) if reads else None)


def logits(task: BaseTask) -> Tensor:
    return task.logits(task.hidden(batch(task)))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_an_adapted_model_begins_as_its_base_bit_for_bit(name: str) -> None:
    task = make(name, torch.float32)
    before = logits(task)
    add_lora(task, 4)
    assert lora_adapters(task)
    assert torch.equal(logits(task), before)


@pytest.mark.parametrize("name", NAMES)
def test_rank_zero_adds_and_freezes_nothing(name: str) -> None:
    task = make(name)
    names = list(task.state_dict())
    add_lora(task, 0)
    assert list(task.state_dict()) == names
    assert all(weight.requires_grad for weight in task.parameters())
    assert merged_state_dict(task).keys() == task.state_dict().keys()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_merged_equals_adapted(name: str) -> None:
    task = adapted(name)
    base = logits(make(name))
    wanted, state = logits(task), merged_state_dict(task)
    assert (wanted - base).abs().max() > 1e-3
    merge_lora(task)
    assert not lora_adapters(task)
    assert (logits(task) - wanted).abs().max() < 1e-12
    assert not any(isinstance(part, LoraLinear) for part in task.modules())
    assert all(weight.requires_grad for weight in task.parameters())
    plain = make(name)
    plain.load_state_dict(state)  # strict: every name is the base's
    assert (logits(plain) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("cell", RECURRENT)
@torch.no_grad()
def test_recurrent_layers_of_every_kind_merge(cell: str) -> None:
    task = adapted("rnn", cell=cell)
    wanted = logits(task)
    merge_lora(task)
    assert (logits(task) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["llama", "rnn", "transformer", "transformer_xl", "gpt2"])
@torch.no_grad()
def test_token_by_token_equals_all_at_once(name: str) -> None:
    """With a memory, parts of the joint matrix are used alone."""
    task = adapted(name)
    given, backbone = batch(task), task.backbone
    state = backbone.new_cache(3, T) if name != "transformer_xl" else backbone.recurrent_state(3)
    assert state is not None
    if name == "transformer":
        backbone.encode_source(given.source, None, state)
    steps = [backbone(given.tokens[:, n : n + 1], state) for n in range(T)]
    assert (torch.cat(steps, 1) - task.hidden(given)).abs().max() < 1e-12


@torch.no_grad()
def test_parts_are_adapters_of_their_own() -> None:
    """Against the paper's formula for each part alone."""
    torch.manual_seed(0)
    base = nn.Linear(8, 12).double()
    lora = LoraAdapter(base.weight, 2, 6.0, parts=[6, 4, 2])
    lora.b.normal_()
    layer, x = LoraLinear(base, lora), torch.randn(5, 8, dtype=torch.float64)
    pieces, start = [], 0
    for number, size in enumerate([6, 4, 2]):
        a, b = lora.a[2 * number : 2 * number + 2], lora.b[start : start + size]
        pieces.append(x @ base.weight[start : start + size].T + 3 * (x @ a.T @ b.T))
        start += size
    wanted = torch.cat(pieces, 1) + base.bias
    assert (layer(x) - wanted).abs().max() < 1e-12
    for first, last in ((0, 6), (6, 12), (4, 11), (0, 12)):
        part = lora(x, F.linear(x, base.weight[first:last], base.bias[first:last]), first, last)
        assert (part - wanted[:, first:last]).abs().max() < 1e-12


@torch.no_grad()
def test_a_wrong_scale_is_noticed() -> None:
    task = adapted("llama")
    wanted = logits(task)
    for one in lora_adapters(task).values():
        one.alpha /= one.rank
    merge_lora(task)
    assert (logits(task) - wanted).abs().max() > 1e-3


@torch.no_grad()
def test_mixed_up_parts_are_noticed() -> None:
    task = adapted("llama")
    wanted = logits(task)
    one = lora_adapters(task)["backbone.blocks.0.attention.qkv.weight"]
    one.a.copy_(one.a.roll(one.rank, 0))
    assert (logits(task) - wanted).abs().max() > 1e-3


@torch.no_grad()
def test_a_slice_without_its_adapter_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    task = adapted("transformer")
    wanted = logits(task)
    monkeypatch.setattr("scriven.nn.attention.LoraLinear", bool)
    assert (logits(task) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_only_adapters_learn_and_the_gradients_are_the_merged_models(name: str) -> None:
    """dL/dB = s dL/dW A^T and dL/dA = s B^T dL/dW, with dL/dW of the merged model."""
    task = adapted(name)
    state = merged_state_dict(task)
    task(batch(task)).loss.backward()
    plain = make(name)
    plain.load_state_dict(state)
    plain(batch(plain)).loss.backward()
    for each, weight in task.named_parameters():
        assert (weight.grad is not None) == (".lora." in each), each
    for each, one in lora_adapters(task).items():
        whole = plain.get_parameter(each).grad
        assert whole is not None
        assert one.a.grad is not None
        assert one.b.grad is not None
        a, b = one.a.split(one.rank), one.b.split(one.parts)
        rows = whole.split(one.parts)
        of_a = torch.cat([q.T @ g for q, g in zip(b, rows, strict=True)]) * one.scale
        of_b = torch.cat([g @ p.T for p, g in zip(a, rows, strict=True)]) * one.scale
        assert (one.a.grad - of_a).abs().max() < 1e-9 * (1 + of_a.abs().max())
        assert (one.b.grad - of_b).abs().max() < 1e-9 * (1 + of_b.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_autocast_trains(name: str) -> None:
    task = make(name, torch.float32)
    add_lora(task, 4, dropout=0.1)
    task.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(batch(task)).loss
    loss.backward()
    moved = [one.b.grad for one in lora_adapters(task).values()]
    assert all(grad is not None and grad.isfinite().all() for grad in moved)
    assert any(grad is not None and grad.abs().max() > 0 for grad in moved)


def test_dropout_works_while_training_only() -> None:
    task = adapted("gpt2")
    for one in lora_adapters(task).values():
        one.dropout = 0.5
    calm = logits(task)
    assert torch.equal(logits(task), calm)
    task.train()
    assert not torch.equal(logits(task), logits(task))


def test_the_base_is_left_alone_by_training() -> None:
    task = adapted("llama")
    before = {name: weight.clone() for name, weight in task.state_dict().items()}
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        task(batch(task)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, weight in task.state_dict().items():
        assert torch.equal(weight, before[name]) == (".lora." not in name)


def test_targets_may_be_named() -> None:
    task = make("llama")
    add_lora(task, 2, targets=["out", "backbone.blocks.1.mlp.down"])
    assert sorted(lora_adapters(task)) == [
        "backbone.blocks.0.attention.out.weight",
        "backbone.blocks.1.attention.out.weight",
        "backbone.blocks.1.mlp.down.weight",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rank": -1}, "--lora=-1"),
        ({"rank": 17}, "--lora=17: from 0"),
        ({"rank": 2, "alpha": 0.0}, "alpha"),
        ({"rank": 2, "alpha": float("nan")}, "alpha"),
        ({"rank": 2, "dropout": 1.0}, "dropout"),
        ({"rank": 2, "targets": ["nothing"]}, "no layer"),
    ],
)
def test_impossible_settings_are_refused_before_anything_changes(
    wrong: dict[str, Any], said: str
) -> None:
    task = make("gpt2")
    with pytest.raises(SettingError, match=said):
        add_lora(task, **wrong)
    assert not lora_adapters(task)
    assert all(weight.requires_grad for weight in task.parameters())


@pytest.mark.parametrize("parts", [None, [4, 2]])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fused_step_has_the_gradients_of_the_formula(
    parts: list[int] | None, bias: bool
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6, bias=bias)).double()
    add_lora(module, 2, targets=["0"], parts={"0.weight": parts} if parts else None)
    (lora,) = lora_adapters(module).values()
    nn.init.normal_(lora.b)
    x = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    layer: Any = module[0]

    def formula(x: torch.Tensor) -> torch.Tensor:
        delta = lora.block_diagonal_b() @ lora.a * lora.scale
        return F.linear(x, layer.weight + delta, layer.bias)

    weights, some = (x, lora.a, lora.b), torch.randn(3, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(module(x), formula(x), rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad((module(x) * some).sum(), weights)
    expected = torch.autograd.grad((formula(x) * some).sum(), weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_adapters_beside_half_precision_are_float32_and_get_float32_gradients() -> None:
    module = nn.Sequential(nn.Linear(8, 8)).bfloat16()
    add_lora(module, 2, targets=["0"])
    (lora,) = lora_adapters(module).values()
    assert (lora.a.dtype, lora.b.dtype) == (torch.float32, torch.float32)
    module(torch.randn(4, 8)).float().sum().backward()
    assert lora.b.grad is not None
    assert lora.b.grad.dtype == torch.float32
    assert lora.b.grad.any()
