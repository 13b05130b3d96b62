"""The measured speed of a machine, and what a wall-clock budget becomes on slow and fast ones."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from scriven.runtime import Runtime
from scriven.settings import Settings, TokenizerSettings
from scriven.train.autoconfig import DatasetStats, TrainPlan, plan_pretraining
from scriven.train.scaling_laws import TYPICAL_FLOPS
from scriven.train.schedule import parse_budget

MEASURE = """
import sys
from scriven.runtime import choose_runtime
from scriven.settings import RuntimeSettings
from scriven.train.throughput import training_flops
runtime = choose_runtime(RuntimeSettings(threads=1))
training_flops(runtime)
print(max(training_flops(runtime) for _ in range(4)), flush=True)  # others may run beside it
sys.stdin.readline()
print(training_flops(runtime), flush=True)
"""


def planned(budget: str, flops: float, tokens: int = 1_000_000) -> TrainPlan:
    """What `train` would do with so many characters at so many FLOP/s."""
    text = DatasetStats(65, TokenizerSettings(), tokens, tokens // 10)
    return plan_pretraining(
        "llama", {}, Settings(), parse_budget(budget), 0, text,
        Runtime(torch.device("cpu"), torch.float32, 1, {}), flops_per_second=flops,
    )  # fmt: skip


@pytest.mark.parametrize("slower", [0.25, 4.0, 40.0])
@pytest.mark.parametrize("seconds", [30, 60, 100, 600, 3000])
def test_the_same_work_is_planned_the_same_way_on_any_machine(seconds: int, slower: float) -> None:
    here = planned(f"{seconds}s", TYPICAL_FLOPS)
    there = planned(f"{seconds * slower}s", TYPICAL_FLOPS / slower)
    assert here.model == there.model
    assert here.settings.optim == there.settings.optim


def test_the_same_seconds_are_more_work_on_a_faster_machine() -> None:
    slow, usual, fast = (planned("60s", factor * TYPICAL_FLOPS) for factor in (0.25, 1, 4))
    assert [each.model.layers for each in (slow, usual, fast)] == [2, 3, 4]
    assert [each.model.context_length for each in (slow, usual, fast)] == [128, 256, 512]
    assert "2.4 TFLOP" in slow.reasons["model.layers"]


@pytest.mark.parametrize(
    ("tokens", "budget", "dropout"),
    [
        (1_000_000, "3m", 0.0), (1_000_000, "20m", 0.0), (1_000_000, "1h", 0.1),
        (100_000, "1m", 0.2), (100_000, "3m", 0.3), (100_000, "1h", 0.3), (10**9, "24h", 0.0),
    ],
)  # fmt: skip
def test_dropout_grows_as_a_model_can_memorise_its_text(
    tokens: int, budget: str, dropout: float
) -> None:
    made = planned(budget, TYPICAL_FLOPS, tokens)
    assert made.model.dropout == dropout, made.reasons["model.dropout"]


def test_the_same_seconds_memorise_more_on_a_faster_machine() -> None:
    slow, fast = (planned("60s", each * TYPICAL_FLOPS, 100_000) for each in (0.25, 2))
    assert slow.model.dropout < fast.model.dropout


def test_a_throttled_process_measures_that_it_is_slow() -> None:
    """Stopped for four fifths of the time, as a container with a small quota of CPU time is."""
    child = subprocess.Popen(
        [sys.executable, "-c", MEASURE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    with child:
        free = float(child.stdout.readline())
        child.stdin.write("\n")
        child.stdin.flush()
        os.set_blocking(child.stdout.fileno(), False)
        line, until = "", time.monotonic() + 60
        while not line and time.monotonic() < until:
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(0.04)
            os.kill(child.pid, signal.SIGCONT)
            time.sleep(0.01)
            line = child.stdout.readline()
        child.stdin.close()
    assert float(line) < 0.6 * free
