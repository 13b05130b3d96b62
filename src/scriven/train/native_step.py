"""Whether the steps of a run are computed by C++ code that is compiled for this machine, whole
(native/training.py) or their attention (native/causal_attention.py): decided before the first step,
and kept in the checkpoints, as the ways differ in the last digits.
"""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch

from ..data.batch import Batch
from ..errors import ScrivenError
from ..files import write_file
from ..native.causal_attention import NativeAttention
from ..native.library import library_path, load_library
from ..native.training import NativeTraining, check_supported
from ..native.weights import UnsupportedError
from ..runtime import Runtime
from ..settings import RuntimeSettings
from ..tasks.base import BaseTask
from ..tasks.language import Language
from .build_model import Forward, Parallel
from .optim.base import Optimizers
from .train_state import Run, TrainState

SHORT_BUDGET = 120
"""Seconds of a budget below which a training does not wait for the compiler."""
TRIAL_TOKENS = 2048
TRIALS = 2


def start_compiling(runtime: Runtime, settings: RuntimeSettings) -> None:
    """Starts the compiler where it has never run on this machine: a text is read meanwhile."""
    if settings.native is not False and runtime.device.type == "cpu":
        load_library(name="training")


def use_native_step(
    run: Run,
    parallel: Parallel,
    optimizers: Optimizers,
    state: TrainState,
    batch: Callable[[], Batch],
    say: Callable[[str], None],
) -> None:
    """Replaces the forward pass of `parallel`, and Muon's update, where compiled code knows the
    model and is faster.

    Args:
        state: says what earlier steps were computed by, and is told the decision.
        batch: gives one to measure with.
        say: is told where a run cannot go on as it began.
    """
    before, settings = state.native_step, run.plan.settings.runtime
    state.native_step = False
    plain = run.dist.world_size == 1 and not settings.compile
    if (
        before is False
        or settings.native is False
        or not plain
        or settings.activation_checkpointing
    ):
        return
    budget = run.plan.budget
    wait = before or settings.native or budget.unit != "seconds" or budget.amount >= SHORT_BUDGET
    try:
        native = compiled_task(parallel.task, run.runtime.dtype, bool(wait))
    except UnsupportedError:
        if before:
            say("no compiled code here as before: the numbers may differ in the last digits")
        return
    if before or settings.native or _is_faster(run, native, parallel, batch()):
        state.native_step = True
        parallel.forward = parallel.evaluation_forward = native
        optimizers.use_native()


def compiled_task(
    task: BaseTask, dtype: torch.dtype, wait: bool
) -> NativeTraining | NativeAttention:
    """The task with as much compiled code as there is for it.

    Raises:
        UnsupportedError: there is none.
    """
    try:
        check_supported(task)
    except UnsupportedError:
        if dtype not in (torch.float32, torch.bfloat16) or type(task) is not Language:
            raise
        return NativeAttention(task, dtype, wait=wait)
    return NativeTraining(task, dtype, wait=wait)


def _is_faster(
    run: Run, native: NativeTraining | NativeAttention, parallel: Parallel, batch: Batch
) -> bool:
    """Whether compiled code computes gradients faster than PyTorch: measured once per machine."""
    length = batch.tokens.size(1)
    rows = max(1, min(run.plan.settings.train.micro_batch_size or 1, TRIAL_TOKENS // length))
    micro_batch = next(batch.split(rows))
    path = library_path("training")
    assert path is not None
    facts = [
        path.stem, torch.__version__, str(run.runtime.dtype), torch.get_num_threads(),
        asdict(run.plan.model), list(micro_batch.tokens.shape), type(native).__name__,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    kept = path.parent / f"times-{digest[:24]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        times = json.loads(kept.read_text(encoding="utf-8"))
        return bool(times["native"] < times["torch"])
    forwards: tuple[Forward, Forward] = native, parallel.forward
    if isinstance(native, NativeAttention):  # a step of a large model would take long
        forwards = native.trials()
    found = {
        name: _seconds(run, forward, parallel, micro_batch)
        for name, forward in zip(("native", "torch"), forwards, strict=True)
    }
    with suppress(ScrivenError):  # a cache folder that cannot be written
        write_file(kept, json.dumps(found).encode())
    return found["native"] < found["torch"]


def _seconds(run: Run, forward: Forward, parallel: Parallel, batch: Batch) -> float:
    """The best time of a forward and a backward pass, whose gradients are dropped."""
    best = float("inf")
    for _ in range(TRIALS):
        began = time.perf_counter()
        with run.runtime.autocast():
            loss: Any = forward(batch).loss
        loss.backward()
        best = min(best, time.perf_counter() - began)
        for weight in parallel.task.parameters():
            weight.grad = None
    return best
