"""How a process treats the machine: looked at, and decided before PyTorch is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scriven.process import SPINS, SPINS_BUSY, is_busy


@pytest.mark.parametrize(
    ("cores", "running", "busy"),
    [(2, 1, False), (2, 2, True), (2, 9, True), (16, 4, False), (16, 5, True)],
)
def test_busy_is_when_others_want_many_cores(
    tmp_path: Path, cores: int, running: int, busy: bool
) -> None:
    stat = tmp_path / "stat"
    each = "".join(f"cpu{number} 1 2 3\n" for number in range(cores))
    stat.write_text(f"cpu 1 2 3\n{each}intr 5\nprocs_running {running}\nprocs_blocked 0\n")
    assert is_busy(stat) == busy


@pytest.mark.parametrize("told", ["", "cpu0 1 2\n", "cpu0 1 2\nprocs_running many\n"])
def test_a_system_that_does_not_tell_is_not_busy(tmp_path: Path, told: str) -> None:
    stat = tmp_path / "stat"
    assert not is_busy(stat)
    stat.write_text(told)
    assert not is_busy(stat)


def spins(code: str, **given: str) -> str:
    """What OpenMP is told in a new process."""
    kept = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    script = f"import os, scriven; {code}; print(os.environ.get('GOMP_SPINCOUNT'))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=kept | given)
    return done.stdout.strip()


def test_threads_are_told_how_long_to_spin_when_torch_is_needed() -> None:
    assert spins("pass") == "None"
    assert spins("scriven.train") in (SPINS, SPINS_BUSY)


def test_what_the_environment_says_is_respected() -> None:
    assert spins("scriven.train", GOMP_SPINCOUNT="77") == "77"
    assert spins("scriven.train", OMP_WAIT_POLICY="passive") == "None"
