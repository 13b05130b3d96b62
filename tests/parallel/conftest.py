"""What tests of several processes share: a text, and a way to start them."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("worker.py")
Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text in which something can be learned."""
    draw = random.Random(0)
    some = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(60)]
    lines = [" ".join(draw.choices(some, k=9)) + "." for _ in range(150)]
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def torchrun(processes: int, *arguments: str) -> list[str]:
    """A command that starts several processes here."""
    standalone = ["--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, "-m", "torch.distributed.run", *standalone, *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def launch(jobs: Sequence[dict[str, Any]], processes: int, folder: Path) -> None:
    """Does trainings on several processes (tests/parallel/worker.py)."""
    path = folder / f"jobs-{processes}.json"
    path.write_text(json.dumps(list(jobs)))
    command = torchrun(processes, str(WORKER), str(path))
    if processes == 1:
        command = [sys.executable, str(WORKER), str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
