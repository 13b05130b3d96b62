"""What is done on GPUs, executed against stand-ins of Apple's and NVIDIA's."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed
from torch.overrides import TorchFunctionMode

from scriven.distributed import init_distributed
from scriven.errors import SettingError
from scriven.nn.embeddings import DistanceEmbedding, RotaryEmbedding
from scriven.plan import hardware
from scriven.runtime import available_memory, choose_runtime
from scriven.settings import RuntimeSettings


class OnApple(TorchFunctionMode):
    """Tensors say that they are on `mps`, are on the CPU, and cannot be float64."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        def on_cpu(value: Any) -> Any:
            is_mps = isinstance(value, torch.device) and value.type == "mps"
            return torch.device("cpu") if is_mps else value

        if func == torch.Tensor.device.__get__:
            return torch.device("mps")
        named = {name: on_cpu(value) for name, value in (kwargs or {}).items()}
        result = func(*map(on_cpu, args), **named)
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError("MPS has no float64")
        return result


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def plug(cuda: bool = False, mps: bool = False, bf16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)

    return plug


def test_the_fastest_device_is_chosen_with_the_precision_that_it_has(gpus: Any) -> None:
    chosen = {}
    for name, has in (
        ("none", {}),
        ("apple", {"mps": True}),
        ("nvidia", {"cuda": True}),
        ("old nvidia", {"cuda": True, "bf16": False}),
    ):
        gpus(**has)
        runtime = choose_runtime(RuntimeSettings())
        chosen[name] = (runtime.device.type, str(runtime.dtype).removeprefix("torch."))
    assert chosen["none"][0] == "cpu"
    assert chosen["apple"] == ("mps", "float32")
    assert chosen["nvidia"] == ("cuda", "bfloat16")
    assert chosen["old nvidia"] == ("cuda", "float16")
    gpus(cuda=True)
    assert choose_runtime(RuntimeSettings(), (1, 2)).device == torch.device("cuda", 1)
    assert choose_runtime(RuntimeSettings(device="cpu")).device.type == "cpu"
    gpus(mps=True)
    with pytest.raises(SettingError, match="use mps, cpu"):
        choose_runtime(RuntimeSettings(device="cuda"))


def test_position_encodings_need_no_float64_on_apple() -> None:
    rotary, distances = RotaryEmbedding(8, 16), DistanceEmbedding(8, 16)
    expected = rotary._tables(torch.arange(16), torch.float32)
    with OnApple():
        found = rotary._tables(torch.arange(16), torch.float32)
        vectors = distances._vectors(16, torch.device("mps"))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors, distances._vectors(16, None), atol=1e-5, rtol=0)


def test_the_stand_in_notices_float64() -> None:
    with OnApple(), pytest.raises(TypeError, match="no float64"):
        torch.arange(3, dtype=torch.float64, device=torch.device("mps"))


def test_memory_and_name_of_a_gpu_are_those_that_the_driver_tells(
    gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(cuda=True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5 << 30, 8 << 30))
    assert available_memory(torch.device("cuda")) == 5 << 30
    properties = SimpleNamespace(total_memory=24e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert hardware.hardware_of(None, measured=False) is hardware.GPUS["h100"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Another GPU")
    found = hardware.hardware_of(None, measured=False)
    assert (found.name, found.memory) == ("Another GPU", 24e9)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_measurement_waits_for_the_kernels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    module = getattr(torch, kind)
    monkeypatch.setattr(module, "synchronize", lambda *_: waited.append(kind))
    calls = []
    hardware._calls_per_second(lambda: calls.append(1), torch.device(kind), 0.01)
    assert len(waited) == len(calls) > 1


def test_processes_with_gpus_take_one_each_and_speak_by_nccl(
    gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(cuda=True)
    for name, value in {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    taken: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(None, 1, 2)]))
    monkeypatch.setattr(distributed, "PrefixStore", lambda *_: None)
    monkeypatch.setattr(
        distributed, "init_process_group", lambda backend, **_: taken.append(backend)
    )
    monkeypatch.setattr("atexit.register", lambda *_: None)
    assert init_distributed().rank == 1
    assert taken == [1, "cpu:gloo,cuda:nccl"]
