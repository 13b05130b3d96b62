"""What a training can run on: published figures of GPUs, or what this machine measures.

Knows no model. Measured figures differ a little from one time to the next.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..errors import SettingError
from ..runtime import available_memory, choose_runtime
from ..settings import RuntimeSettings


@dataclass(frozen=True)
class Hardware:
    """One device and its links to others; rates per second, in one direction."""

    name: str
    peak: float
    """FLOPs of dense matmuls, in the precision that is used."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes of its memory."""
    link: float
    """Bytes to the other devices of its node."""
    network: float
    """Bytes from its node to others, all devices together."""
    per_node: int
    """Devices of one node."""
    half: bool = True
    """Whether matmuls are done in 16 bits."""
    gpu: bool = True
    source: str = "data sheet"


# NVIDIA's data sheets of the SXM modules: dense bfloat16 (the sheets also name twice as much, with
# sparsity), memory, its bandwidth, and half of NVLink's figure, which counts both directions. The
# network is that of NVIDIA's own nodes: DGX A100 with 8 x 200 Gb/s, DGX H100 and H200 with
# 8 x 400 Gb/s. Many clusters have less: --network.
GPUS = {
    "a100": Hardware("A100", 312e12, 80e9, 2.039e12, 300e9, 200e9, 8),
    "h100": Hardware("H100", 989e12, 80e9, 3.35e12, 450e9, 400e9, 8),
    "h200": Hardware("H200", 989e12, 141e9, 4.8e12, 450e9, 400e9, 8),
}

# Bytes per second of 10 Gb/s, between nodes of which nothing better is known.
ETHERNET = 1.25e9

# Bytes per second of a CPU's memory, where nothing is measured.
CPU_BANDWIDTH = 20e9


def hardware_of(name: str | None, measured: bool = True) -> Hardware:
    """A GPU of the table, or this machine: `cpu`, or whatever it has where name is None.

    Args:
        measured: whether this machine is measured (half a second); its peak is 0 otherwise.

    Raises:
        SettingError: no such device.
    """
    name = name.lower() if name else None
    # 1. a GPU of the table
    if name in GPUS:
        return GPUS[name]
    if name not in (None, "cpu"):
        raise SettingError(f"--device {name!r} is unknown: use {', '.join(GPUS)} or cpu")
    # 2. this machine; a known GPU has better figures in the table
    runtime = choose_runtime(RuntimeSettings(device=name))
    device, on_gpu = runtime.device, runtime.device.type != "cpu"
    if device.type == "cuda":
        title = torch.cuda.get_device_name(device)
        known = [gpu for key, gpu in GPUS.items() if key in title.lower()]
        if known:
            return known[0]
        memory = float(torch.cuda.get_device_properties(device).total_memory)
    else:
        title = "this GPU" if on_gpu else "this CPU"
        memory = float(available_memory() or 8e9)
    # 3. measured, unless the caller gives the peak
    peak = 1e9 * matmul_rate(runtime.dtype, 0.3, device) if measured else 0.0
    bandwidth = _copy_bandwidth(device) if measured else CPU_BANDWIDTH
    source = "measured just now" if measured else "as given"
    half = runtime.dtype != torch.float32
    return Hardware(title, peak, memory, bandwidth, ETHERNET, ETHERNET, 1, half, on_gpu, source)


def matmul_rate(
    dtype: torch.dtype, seconds: float = 0.5, device: torch.device | None = None
) -> float:
    """GFLOP/s of a square matrix multiplication."""
    # large enough to keep all cores busy; a GPU needs more
    device = device or torch.device("cpu")
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    calls = _calls_per_second(lambda: left @ right, device, seconds)
    return round(2 * size**3 * calls / 1e9, 1)


def _copy_bandwidth(device: torch.device, seconds: float = 0.2) -> float:
    """Bytes per second read and written by a copy too large for any cache."""
    source = torch.zeros(1 << 25, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes * _calls_per_second(lambda: target.copy_(source), device, seconds)


def _calls_per_second(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    def finish() -> None:
        work()
        # kernels run asynchronously on GPUs
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    # the first call allocates and may compile
    finish()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        finish()
        count += 1
    return count / (time.perf_counter() - began)
