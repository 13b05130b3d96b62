"""Checks this machine: versions, devices and packages, and a numerical self-test."""

import re
import shutil
from importlib import metadata
from typing import Any

import torch

from .. import __version__, registry
from ..data.batch import Batch
from ..format import format_bytes
from ..models import llama
from ..native import library
from ..runtime import Runtime, available_memory, choose_runtime
from ..settings import RuntimeSettings
from ..tasks.language import Language

_REQUIREMENT = re.compile(r"([\w.-]+).*extra == ['\"](\w+)['\"]")
"""A package of an extra, as the metadata of an installation lists it."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of a loss near 4 nats from the same model in float64 on the CPU."""


def diagnose() -> dict[str, Any]:
    """Versions, device, precision, threads, memory, disk, extras, and a numerical self-test."""
    # what training would choose on this machine
    runtime = choose_runtime(RuntimeSettings())
    free = shutil.disk_usage(".").free
    memory = available_memory()
    return {
        "scriven": __version__,
        **runtime.describe(),
        "memory_free": format_bytes(memory) if memory else "unknown",
        "disk_free": format_bytes(free),
        "native_kernels": library.state(),
        "native_training": library.state("training"),
        "compiler": shutil.which("c++") or shutil.which("g++") or "none",
        **{f"extra_{name}": state for name, state in extras().items()},
        "self_test": "passed" if self_test(runtime) <= TOLERANCE[runtime.dtype] else "failed",
    }


def extras() -> dict[str, str]:
    """Extra -> its packages with their versions, and how to install those that are missing."""
    packages: dict[str, list[str]] = {}
    for requirement in metadata.requires("scriven") or ():
        if match := _REQUIREMENT.match(requirement):
            packages.setdefault(match[2], []).append(match[1])
    packages.pop("dev", None)  # tools for work on Scriven itself
    states = {}
    for extra, names in sorted(packages.items()):
        versions = {name: registry.installed_version(name) for name in names}
        found = [f"{name} {version}" for name, version in versions.items() if version is not None]
        if len(found) < len(versions):
            missing = ", ".join(name for name, version in versions.items() if version is None)
            found.append(f"without {missing}: pip install 'scriven[{extra}]'")
        states[extra] = ", ".join(found)
    return states


def self_test(runtime: Runtime) -> float:
    """The difference of a small model's loss on this device from its loss in float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    task = Language(
        llama.Model(llama.Config(vocab_size=64, context_length=32, layers=2, d_model=64))
    )
    with torch.no_grad():
        for weight in task.parameters():
            # drawn on the CPU, so that every device gets the same weights
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    tokens = torch.randint(64, (4, 33), generator=generator)
    # float64 on the CPU is the reference
    exact = _loss(task.double(), tokens)
    task = task.float().to(runtime.device)
    with runtime.autocast():
        return abs(_loss(task, tokens.to(runtime.device)) - exact)


@torch.no_grad()
def _loss(task: Language, tokens: torch.Tensor) -> float:
    output = task(Batch(tokens[:, :-1], tokens[:, 1:]))
    return float(output.loss / output.tokens)
