"""Appends rows to bench/results.jsonl: one per measurement, with machine, versions and commit."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scriven import __version__
from scriven.machine.benchmark import bandwidth
from scriven.plan.hardware import matmul_rate
from scriven.runtime import cpu_name

RESULTS = Path(__file__).with_name("results.jsonl")


def machine() -> dict[str, Any]:
    """The machine and the versions of the code that ran on it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit,
        "scriven": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": cpu_name(),
        "threads": torch.get_num_threads(),
        "float32_gflops": matmul_rate(torch.float32),
        "bfloat16_gflops": matmul_rate(torch.bfloat16),
        "memory_gb_per_second": bandwidth(1024),
        "cache_gb_per_second": bandwidth(8),
    }


def write(what: str, machine_info: dict[str, Any], **figures: Any) -> dict[str, Any]:
    """Appends a row to RESULTS, prints it and returns it."""
    row = {"what": what, **figures, **machine_info}
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps({"what": what, **figures}), flush=True)
    return row
