"""What every benchmark writes: one row per measurement, with machine, versions and commit."""

import json
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scriven import __version__
from scriven.runtime import processor

RESULTS = Path(__file__).with_name("results.jsonl")


def matmul_rate(dtype: torch.dtype, seconds: float = 0.5) -> float:
    """GFLOP/s of a square product, two threads or what torch chose: the machine's measure."""
    size = 1024
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    left @ right
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        left @ right
        count += 1
    return round(2 * size**3 * count / (time.perf_counter() - began) / 1e9, 1)


def bandwidth(megabytes: int, repeats: int = 5) -> dict[str, float]:
    """GB/s of reading an array (its sum) and of copying it, both directions counted; the best of
    some. Arrays beyond the caches tell what memory gives, small ones what the caches do."""
    source = torch.ones(megabytes * (1 << 18))
    target = torch.empty_like(source)
    size, rounds = source.nbytes / 1e9, max(1, 64 // megabytes)
    best = {"read": 0.0, "copy": 0.0}
    for _ in range(repeats + 1):
        for name, times, work in (
            ("read", 1, source.sum),
            ("copy", 2, lambda: target.copy_(source)),
        ):
            began = time.perf_counter()
            for _ in range(rounds):
                work()
            rate = times * size * rounds / (time.perf_counter() - began)
            best[name] = max(best[name], round(rate, 1))
    return best


def machine() -> dict[str, Any]:
    """The measured machine and the code that ran on it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit,
        "scriven": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "float32_gflops": matmul_rate(torch.float32),
        "bfloat16_gflops": matmul_rate(torch.bfloat16),
        "memory_gb_per_second": bandwidth(1024),
        "cache_gb_per_second": bandwidth(8),
    }


def write(what: str, here: dict[str, Any], **figures: Any) -> dict[str, Any]:
    """Appends a row to RESULTS and shows it; returns it."""
    row = {"what": what, **figures, **here}
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps({"what": what, **figures}), flush=True)
    return row
