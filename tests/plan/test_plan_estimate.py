"""Estimated memory, communication and FLOPs against what torch keeps, sends and counts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scriven import config, registry
from scriven.data.batch import Batch
from scriven.nn import attention
from scriven.plan import estimate as estimates
from scriven.plan.estimate import (
    LAYOUTS,
    Layout,
    bytes_sent,
    estimate,
    memory_by_part,
    min_devices,
    peak_memory,
    seconds_by_part,
)
from scriven.plan.hardware import GPUS, Hardware, hardware_of
from scriven.plan.model_stats import ModelStats, model_stats
from scriven.settings import OptimSettings
from scriven.tasks.language import Language
from scriven.train.optim import muon
from scriven.train.optim.base import Optimizers
from scriven.train.optim.muon import Muon, newton_schulz

A100 = GPUS["a100"]
DDP, FSDP = Layout("ddp", False), Layout("fsdp", False)
PLAIN = replace(A100, half=False)


@pytest.fixture(autouse=True)
def one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as on a GPU, which estimates are for."""
    monkeypatch.setattr(attention, "NAIVE_MAX_LENGTH", 0)
    monkeypatch.setattr(attention, "BLOCK_CAUSAL_LENGTHS", range(0))


def shape(architecture: str = "llama", **fields: object) -> Any:
    usual = {"vocab_size": 64, "context_length": 1024, "layers": 2, "heads": 2, "d_model": 64}
    start = registry.module("scriven.models", architecture).Config()
    return config.replace(start, {**usual, **fields}, "model")


def stats_of(
    architecture: str = "llama", optimizer: str = "muon", rows: int = 8, **fields: Any
) -> ModelStats:
    return replace(
        model_stats(architecture, shape(architecture, **fields), optimizer, True), batch_size=rows
    )


def built(architecture: str, **fields: object) -> Language:
    task = Language(
        registry.module("scriven.models", architecture).Model(shape(architecture, **fields))
    )
    task.init_weights()
    return task


def step(task: Language, dtype: torch.dtype) -> torch.Tensor:
    """Loss of one sequence of 1024 tokens."""
    tokens = torch.randint(64, (1, 1024))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        return task(Batch(tokens, tokens)).loss


def saved(task: Language, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps for backward, each storage once, weights left out."""
    seen: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in task.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step(task, dtype)
    del loss
    return sum(seen.values())


PRECISIONS = [(torch.float32, estimates.FLOAT32), (torch.bfloat16, estimates.BFLOAT16_ACTIVATION)]


@pytest.mark.parametrize(("dtype", "number"), PRECISIONS)
def test_activations_are_what_autograd_keeps(dtype: torch.dtype, number: float) -> None:
    two, four = (saved(built("llama", layers=n), dtype) for n in (2, 4))
    ours = number * (stats_of(layers=4).activations - stats_of(layers=2).activations)
    assert ours == pytest.approx((four - two) / 1024, rel=0.1)


@pytest.mark.parametrize(("dtype", "number"), PRECISIONS)
def test_activations_of_a_simpler_block_are_on_the_safe_side(
    dtype: torch.dtype, number: float
) -> None:
    two, four = (saved(built("gpt2", layers=n), dtype) for n in (2, 4))
    ours = number * (
        stats_of("gpt2", layers=4).activations - stats_of("gpt2", layers=2).activations
    )
    assert 1 <= ours / ((four - two) / 1024) < 1.6


def test_a_forgotten_layer_is_noticed() -> None:
    """A planted bug."""
    two, four = (saved(built("llama", layers=n), torch.float32) for n in (2, 4))
    wrong = estimates.FLOAT32 * (stats_of(layers=3).activations - stats_of(layers=2).activations)
    assert wrong != pytest.approx((four - two) / 1024, rel=0.1)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_weights_gradients_and_moments_are_those_of_a_real_step(optimizer: Any) -> None:
    task = built("llama")
    moving = Optimizers(task, OptimSettings(optimizer, lr=1e-3))
    step(task, torch.float32).backward()
    gradients = sum(weight.grad.nbytes for weight in task.parameters() if weight.grad is not None)
    moving.step(1.0)
    moments = sum(each.nbytes for each in moving.state()[0].values() if each.dim())
    parts = memory_by_part(stats_of(optimizer=optimizer), DDP, PLAIN, 1, 1)
    assert parts["weights"] == sum(weight.nbytes for weight in task.parameters())
    assert parts["gradients"] == gradients
    assert parts["optimizer"] == moments
    assert parts["copies"] == 0


def test_memory_of_muon_is_needed_when_activations_are_freed() -> None:
    parts = {"weights": 5.0, "activations": 3.0, "logits": 1.0, "temporaries": 2.0}
    assert peak_memory(parts) == 9
    assert peak_memory(parts | {"temporaries": 6.0}) == 11


def test_muon_takes_a_few_matrices_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved() -> list[torch.Tensor]:
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(8, 16)) for _ in range(5)]
        for weight in weights:
            weight.grad = torch.randn(8, 16)
        Muon(weights).step()
        return [weight.detach() for weight in weights]

    together = moved()
    assert model_stats("llama", shape(layers=3), "muon", True).muon_batch_numel == 3 * 64 * 2 * 192
    monkeypatch.setattr(muon, "MAX_BATCH_NUMEL", 2 * 8 * 16)
    for few, all_ in zip(moved(), together, strict=True):
        torch.testing.assert_close(few, all_)
    model_stats.cache_clear()
    assert model_stats("llama", shape(layers=3), "muon", True).muon_batch_numel == 64 * 2 * 192
    model_stats.cache_clear()


@pytest.mark.parametrize("devices", [2, 8, 64])
def test_fsdp_shards_weights_gradients_and_optimizer_state(devices: int) -> None:
    whole, part = (memory_by_part(stats_of(), each, A100, devices, 1) for each in (DDP, FSDP))
    for name in ("weights", "gradients", "optimizer"):
        assert part[name] == whole[name] / devices
    assert part["activations"] == whole["activations"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_grows_with_what_is_computed_at_once(layout: Layout) -> None:
    one, two = (memory_by_part(stats_of(), layout, A100, 8, micro) for micro in (1, 2))
    assert peak_memory(two) > peak_memory(one)
    assert two["activations"] == 2 * one["activations"]


def test_activation_checkpointing_keeps_less() -> None:
    deep = stats_of(layers=12)
    kept, forgotten = (
        memory_by_part(deep, Layout("ddp", again), A100, 1, 4) for again in (False, True)
    )
    assert forgotten["activations"] < kept["activations"] / 3
    times = [
        seconds_by_part(deep, Layout("ddp", a), A100, 1, 1, 0.4)["compute"] for a in (False, True)
    ]
    assert times[1] == pytest.approx(times[0] * 4 / 3)


def ring(devices: int, numbers: int) -> int:
    """Numbers that one device sends while a ring sums and then hands round, chunk by chunk."""
    sent = 0
    chunk = numbers // devices
    for _ in range(devices - 1):  # sums travel on
        sent += chunk
    for _ in range(devices - 1):  # results travel on
        sent += chunk
    return sent


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_ddp_sends_what_a_ring_sends(devices: int) -> None:
    small = stats_of()
    padded = -(-small.parameters // devices) * devices
    assert bytes_sent(small, DDP, A100, devices, 1) == pytest.approx(
        4 * ring(devices, padded), rel=1e-3
    )


def test_fsdp_sends_for_each_micro_batch() -> None:
    one, two = (bytes_sent(stats_of(rows=8), FSDP, A100, 2, micro) for micro in (4, 2))
    assert two == 2 * one
    assert one == 0.5 * 8 * stats_of().parameters
    assert bytes_sent(stats_of(rows=8), FSDP, PLAIN, 2, 4) == 0.5 * 12 * stats_of().parameters


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (32, 96), (80, 16)])
def test_flops_of_muon_are_what_torch_counts(rows: int, columns: int) -> None:
    with FlopCounterMode(display=False) as counter:
        newton_schulz(torch.randn(1, rows, columns))
    one = replace(stats_of(), matrices=[(min(rows, columns), max(rows, columns))])
    ours = seconds_by_part(one, DDP, replace(A100, peak=1.0), 1, 1, 1.0)["orthogonalisation"]
    assert ours == counter.get_total_flops()


class Counter(TorchDispatchMode):
    """Counts operations that do something; another view of the same numbers does nothing."""

    VIEWS = frozenset(
        ["view", "t", "transpose", "detach", "expand", "slice", "select", "unsqueeze", "squeeze",
         "alias", "split", "split_with_sizes", "permute", "as_strided", "_unsafe_view", "unbind"]
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).split(".")[1] not in self.VIEWS
        return func(*args, **(kwargs or {}))


def test_a_layer_launches_as_many_kernels_as_assumed() -> None:
    counts = []
    for layers in (2, 4):
        task = built("llama", layers=layers)
        with Counter() as counter:
            step(task, torch.bfloat16).backward()
        counts.append(counter.count)
    assert (counts[1] - counts[0]) / 2 == pytest.approx(estimates.KERNELS_PER_LAYER, rel=0.15)


def test_compute_is_the_flops_of_the_busiest_device() -> None:
    small = stats_of(rows=8)
    for devices, rows in ((1, 8), (2, 4), (3, 3), (8, 1), (100, 1)):
        parts = seconds_by_part(small, DDP, A100, devices, 1, 0.5)
        assert parts["compute"] == pytest.approx(small.flops * rows * 1024 / (312e12 * 0.5))


def test_one_device_sends_nothing() -> None:
    assert seconds_by_part(stats_of(), DDP, A100, 1, 1, 0.4)["communication"] == 0


def test_the_bottleneck_is_the_part_made_slow() -> None:
    large = stats_of(rows=4096, layers=8, d_model=1024, heads=8)
    slow: dict[str, Hardware] = {
        "communication": replace(A100, link=1e6),
        "optimizer_update": replace(A100, bandwidth=1e5),
        "compute": A100,
    }
    for part, machine in slow.items():
        found = estimate(large, machine, 8, 0.4)
        assert found is not None and found.bottleneck == part
        assert found.step_seconds >= found.seconds[part]
    tiny = estimate(stats_of(rows=1, context_length=64), A100, 1, 0.4)
    assert tiny is not None and tiny.bottleneck == "kernel_launches"


def test_the_simplest_layout_that_fits_is_taken() -> None:
    large = stats_of(rows=512, layers=16, d_model=1024, heads=8)
    roomy = estimate(large, A100, 8, 0.4)
    assert roomy is not None and roomy.layout == DDP
    needed = peak_memory(memory_by_part(large, FSDP, A100, 8, 1))
    tight = estimate(large, replace(A100, memory=1.2 * needed), 8, 0.4)
    assert tight is not None and tight.layout.parallel == "fsdp"
    assert peak_memory(tight.memory) <= 0.9 * 1.2 * needed


def test_what_fits_nowhere_says_how_many_devices_would_do() -> None:
    huge = stats_of(rows=4096, layers=64, d_model=8192, heads=64)
    assert estimate(huge, A100, 1, 0.4) is None
    needed = min_devices(huge, A100)
    assert needed is not None
    assert estimate(huge, A100, needed, 0.4) is not None
    assert estimate(huge, A100, needed // 2, 0.4) is None
    assert min_devices(huge, replace(A100, memory=1e6)) is None


def test_this_machine_is_measured() -> None:
    here = hardware_of("cpu")
    assert here.source == "measured just now"
    assert 1e9 < here.peak < 1e15
    assert 1e8 < here.bandwidth < 1e13
    assert not here.gpu
