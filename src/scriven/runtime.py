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
    reasons: dict[str, str] = {}
    device = _device(settings.device, reasons)
    if device.type == "cuda" and place[1] > 1:  # one GPU for each process of this computer
        device = torch.device("cuda", place[0])
    dtype = _dtype(settings.dtype, device, reasons)
    threads = settings.threads
    if threads is None:  # torchrun leaves one thread to each process
        threads = torch.get_num_threads() if place[1] == 1 else max(1, available_cpus() // place[1])
    if not 1 <= threads <= 1024:
        raise SettingError(f"--runtime.threads={threads}: between 1 and 1024")
    reasons["runtime.threads"] = "asked for" if settings.threads else "all CPU cores"
    torch.set_num_threads(threads)
    return Runtime(device, dtype, threads, reasons)


def available_cpus() -> int:
    """CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def seed_everything(seed: int) -> None:
    """Seeds PyTorch's random number generators of every device."""
    torch.manual_seed(seed)


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


def has_fast_bfloat16() -> bool:
    """Whether this CPU has instructions (AVX512-BF16, AMX, Arm BF16) for bfloat16 products."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _device(name: str | None, reasons: dict[str, str]) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name is None:
        name = next(each for each, is_available in available.items() if is_available)
        reasons["runtime.device"] = f"{name}: the fastest available"
        return torch.device(name)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingError(f"--runtime.device={name}: use cpu, cuda or mps") from error
    if not available.get(device.type, False):
        have = ", ".join(each for each, is_available in available.items() if is_available)
        raise SettingError(f"--runtime.device={name} is not available here: use {have}")
    reasons["runtime.device"] = "asked for"
    return device


def _dtype(name: str | None, device: torch.device, reasons: dict[str, str]) -> torch.dtype:
    if name is not None:
        if name == "float16" and device.type == "cpu":
            raise SettingError("--runtime.dtype=float16 needs a GPU: use bfloat16 or float32")
        reasons["runtime.dtype"] = "asked for"
        return DTYPES[name]
    if device.type == "cuda":
        # emulated bfloat16 would be slower than float16
        if torch.cuda.is_bf16_supported(including_emulation=False):
            reasons["runtime.dtype"] = "bfloat16: this GPU has it"
            return torch.bfloat16
        reasons["runtime.dtype"] = "float16: this GPU has no bfloat16"
        return torch.float16
    if device.type == "cpu" and has_fast_bfloat16():
        reasons["runtime.dtype"] = "bfloat16: this CPU multiplies it faster"
        return torch.bfloat16
    reasons["runtime.dtype"] = "float32: no faster precision here"
    return torch.float32
