"""Device, precision, threads and random numbers, chosen once and passed on as one frozen object.

Importing this module changes nothing, and models never ask it anything.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from .errors import SettingError
from .settings import RuntimeSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """Device, precision and threads of a run."""

    device: torch.device
    dtype: torch.dtype
    threads: int
    reasons: dict[str, str]
    """Setting -> why it has this value, for `--explain`."""

    def autocast(self) -> AbstractContextManager[object]:
        """Computes matrix multiplications in `dtype`, everything else in float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def describe(self) -> dict[str, object]:
        """The environment as written into a run folder."""
        return {
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": self.threads,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "processor": cpu_name(),
        }


def choose_runtime(settings: RuntimeSettings, place: tuple[int, int] = (0, 1)) -> Runtime:
    """Chooses device, precision and thread count.

    Args:
        settings: None is chosen here.
        place: (local rank, local world size) of this process on this computer.

    Raises:
        SettingError: a device or precision that this machine does not have.
    """
    rank, processes = place
    # 1. device: the first available one
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    reasons = {"runtime.device": f"{available[0]}: the fastest available"}
    try:
        device = torch.device(available[0] if settings.device is None else settings.device)
    except RuntimeError as error:
        raise SettingError(f"--runtime.device={settings.device}: use cpu, cuda or mps") from error
    if device.type not in available:
        raise SettingError(
            f"--runtime.device={settings.device} is not available here: use {', '.join(available)}"
        )
    if settings.device is not None:
        reasons["runtime.device"] = "asked for"
    # one GPU for each process of this computer
    if device.type == "cuda" and processes > 1:
        device = torch.device("cuda", rank)
    # 2. precision of the matrix multiplications
    dtype, reasons["runtime.dtype"] = _dtype(settings.dtype, device)
    # 3. threads: torchrun leaves one thread to each process, which would idle the other cores
    threads = settings.threads
    if threads is None and processes == 1:
        threads = torch.get_num_threads()
    elif threads is None:
        # sched_getaffinity counts the cores that a container allows; it is not on every system
        has_affinity = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        threads = max(1, cores // processes)
    if not 1 <= threads <= 1024:
        raise SettingError(f"--runtime.threads={threads}: between 1 and 1024")
    reasons["runtime.threads"] = "asked for" if settings.threads else "all CPU cores"
    torch.set_num_threads(threads)
    return Runtime(device, dtype, threads, reasons)


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of PyTorch's random number generators, for a checkpoint."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Sets the random number generators to what `rng_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def preserve_rng_state(device: torch.device) -> Iterator[None]:
    """Runs a block whose random numbers do not change those of the training after it."""
    state = rng_state(device)
    try:
        yield
    finally:
        restore_rng_state(state, device)


def available_memory(device: torch.device | None = None) -> int | None:
    """Free bytes of a GPU, or of main memory; None where the system does not tell."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):  # what the cache of files gives back counts
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def cpu_name() -> str:
    """The model name of the CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _dtype(name: str | None, device: torch.device) -> tuple[torch.dtype, str]:
    """(precision, the reason for it) on a device."""
    if name is not None:
        # PyTorch has no float16 kernels for many operations on a CPU
        if name == "float16" and device.type == "cpu":
            raise SettingError("--runtime.dtype=float16 needs a GPU: use bfloat16 or float32")
        return DTYPES[name], "asked for"
    if device.type == "cuda":
        # emulated bfloat16 would be slower than float16
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16: this GPU has it"
        return torch.float16, "float16: this GPU has no bfloat16"
    # without instructions for bfloat16 products (AVX512-BF16, AMX, Arm BF16) it is slower
    # torch 2.9 cannot tell
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, bool])()
    fast = any(capabilities.get(each, False) for each in ("avx512_bf16", "amx_bf16", "bf16"))
    if device.type == "cpu" and fast:
        return torch.bfloat16, "bfloat16: this CPU multiplies it faster"
    return torch.float32, "float32: no faster precision here"
