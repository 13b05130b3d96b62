"""The machine, decided when called and handed on as one frozen object; nothing at import.

Knows devices, precision, threads and random numbers. Models never ask any of it.
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
    """Where and how the arithmetic is done."""

    device: torch.device
    dtype: torch.dtype
    threads: int
    reasons: dict[str, str]
    """What was chosen, and why, for `--explain`."""

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in `dtype`, everything else in float32."""
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
            "processor": processor(),
        }


def decide(settings: RuntimeSettings, place: tuple[int, int] = (0, 1)) -> Runtime:
    """Chooses device, precision and thread count.

    Args:
        settings: what was asked for.
        place: of this process among those of this computer, and their number.

    Raises:
        SettingError: a device or precision asked for by name that this machine does not have.
    """
    reasons: dict[str, str] = {}
    device = _device(settings.device, reasons)
    if device.type == "cuda" and place[1] > 1:
        device = torch.device("cuda", place[0])
    dtype = _dtype(settings.dtype, device, reasons)
    threads = settings.threads
    if threads is None:  # torchrun leaves one thread to each process
        threads = torch.get_num_threads() if place[1] == 1 else max(1, cores() // place[1])
    if not 1 <= threads <= 1024:
        raise SettingError(f"--runtime.threads={threads}: between 1 and 1024")
    reasons["runtime.threads"] = "asked for" if settings.threads else "the processor's cores"
    torch.set_num_threads(threads)
    return Runtime(device, dtype, threads, reasons)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def seed_everything(seed: int) -> None:
    """Seeds torch's random numbers on every device."""
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's random numbers, to be saved with a checkpoint."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def keep_random_state(device: torch.device) -> Iterator[None]:
    """Runs a block that may draw random numbers without moving the training run's stream."""
    state = random_state(device)
    try:
        yield
    finally:
        restore_random_state(state, device)


def memory_available(device: torch.device | None = None) -> int | None:
    """Bytes that can still be used, where the system tells: a GPU's own, or of main memory."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def processor() -> str:
    """The processor's name as a person knows it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _device(wanted: str | None, reasons: dict[str, str]) -> torch.device:
    found = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted is None:
        name = next(name for name, there in found.items() if there)
        reasons["runtime.device"] = f"{name}: the fastest found here"
        return torch.device(name)
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise SettingError(f"--runtime.device={wanted}: use cpu, cuda or mps") from error
    if not found.get(device.type, False):
        have = ", ".join(name for name, there in found.items() if there)
        raise SettingError(f"--runtime.device={wanted} is not available here: use {have}")
    reasons["runtime.device"] = "asked for"
    return device


def _dtype(wanted: str | None, device: torch.device, reasons: dict[str, str]) -> torch.dtype:
    if wanted is not None:
        if wanted == "float16" and device.type == "cpu":
            raise SettingError("--runtime.dtype=float16 needs a GPU: use bfloat16 or float32")
        reasons["runtime.dtype"] = "asked for"
        return DTYPES[wanted]
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            reasons["runtime.dtype"] = "bfloat16: this GPU has it"
            return torch.bfloat16
        reasons["runtime.dtype"] = "float16: this GPU has no bfloat16"
        return torch.float16
    if device.type == "cpu" and fast_bfloat16():
        reasons["runtime.dtype"] = "bfloat16: this processor multiplies it faster"
        return torch.bfloat16
    reasons["runtime.dtype"] = "float32: no faster precision here"
    return torch.float32
