"""What a training can run on: public figures of GPUs, or what this machine reaches in a probe.

Knows no model. Figures of a probe differ a little from one time to the next.
"""

import time
from dataclasses import dataclass

import torch

from ..errors import SettingError
from ..runtime import available_memory, choose_runtime
from ..settings import RuntimeSettings


@dataclass(frozen=True)
class Machine:
    """One device and its ways to others; rates per second, in one direction."""

    name: str
    peak: float
    """FLOPs of matrix products, dense, in the precision that is used."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes of its memory."""
    link: float
    """Bytes to the other devices of its computer."""
    network: float
    """Bytes from its computer to others, all devices together."""
    per_node: int
    """Devices of one computer."""
    half: bool = True
    """Whether products are done in 16 bits."""
    gpu: bool = True
    source: str = "data sheet"


# NVIDIA's data sheets of the SXM modules: dense bfloat16 (the sheets also name twice as much, with
# sparsity), memory, its bandwidth, and half of NVLink's figure, which counts both directions. The
# network is that of NVIDIA's own computers: DGX A100 with 8 x 200 Gb/s, DGX H100 and H200 with
# 8 x 400 Gb/s. Many clusters have less: --network.
MACHINES = {
    "a100": Machine("A100", 312e12, 80e9, 2.039e12, 300e9, 200e9, 8),
    "h100": Machine("H100", 989e12, 80e9, 3.35e12, 450e9, 400e9, 8),
    "h200": Machine("H200", 989e12, 141e9, 4.8e12, 450e9, 400e9, 8),
}

ETHERNET = 1.25e9
"""Bytes per second of 10 Gb/s, between machines of which nothing better is known."""

USUAL = 20e9
"""Bytes per second of a processor's memory, where nothing is measured."""


def machine_of(name: str | None, probed: bool = True) -> Machine:
    """A GPU of the table, or this machine: `cpu`, or whatever it has where name is None.

    Args:
        name: of the table, `cpu`, or None.
        probed: whether this machine's rate is measured (half a second); 0 where it is not.

    Raises:
        SettingError: no such device.
    """
    name = name.lower() if name else None
    if name in MACHINES:
        return MACHINES[name]
    if name not in (None, "cpu"):
        raise SettingError(f"--device {name!r} is unknown: use {', '.join(MACHINES)} or cpu")
    runtime = choose_runtime(RuntimeSettings(device=name))
    if runtime.device.type == "cuda":
        title = torch.cuda.get_device_name(runtime.device)
        known = [MACHINES[key] for key in MACHINES if key in title.lower()]
        if known:
            return known[0]
        memory = float(torch.cuda.get_device_properties(runtime.device).total_memory)
    else:
        title = "this processor" if runtime.device.type == "cpu" else "this GPU"
        memory = float(available_memory() or 8e9)
    half, gpu = runtime.dtype != torch.float32, runtime.device.type != "cpu"
    if not probed:
        return Machine(title, 0.0, memory, USUAL, ETHERNET, ETHERNET, 1, half, gpu, "as given")
    peak = matmul_rate(runtime.device, runtime.dtype)
    copied = copy_rate(runtime.device)
    source = "measured just now"
    return Machine(title, peak, memory, copied, ETHERNET, ETHERNET, 1, half, gpu, source)


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOPs per second of a square product."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 * _times(lambda: left @ right, device, seconds)


def copy_rate(device: torch.device, seconds: float = 0.2) -> float:
    """Bytes per second read and written by a copy that no cache holds."""
    source = torch.zeros(1 << 25, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes * _times(lambda: target.copy_(source), device, seconds)


def _times(work: object, device: torch.device, seconds: float) -> float:
    """How often per second."""
    assert callable(work)
    work()
    _wait(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        _wait(device)
        count += 1
    return count / (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
