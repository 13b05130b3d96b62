"""A planned run on its way: the model is built, named to the person, and trained to its end."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..distributed import SINGLE_PROCESS, DistributedContext, distributed_errors
from ..runtime import Runtime
from .logging import Log, Stopwatch
from .material import Material
from .pretrain import pretrain
from .request import UserComponents
from .signals import StopSignal
from .train_plan import TrainPlan
from .trainer import Trainer


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    folder: Path
    results: dict[str, Any]


def run_plan(
    plan: TrainPlan,
    material: Material,
    folder: Path,
    record: dict[str, Any],
    runtime: Runtime,
    stop: StopSignal,
    clock: Stopwatch,
    own: UserComponents,
    quiet: bool,
    dist: DistributedContext = SINGLE_PROCESS,
) -> TrainResult:
    """Trains what was planned, in a folder that is locked and has its record, to its end; with
    several processes each calls it, and the first one writes."""
    log = Log(
        folder / "metrics.jsonl" if dist.is_main_process else None,
        quiet=quiet or not dist.is_main_process,
    )
    try:
        with distributed_errors() if dist.world_size > 1 else nullcontext():
            run = Trainer(plan, material, folder, record, runtime, log, own, dist)
            log.say(introduction(run))
            return TrainResult(folder, pretrain(run, stop, clock))
    finally:
        log.close()


def introduction(run: Trainer) -> str:
    """What is trained, on what, and where."""
    plan, model, material, dist = run.plan, run.plan.model, run.material, run.dist
    count = sum(weight.numel() for weight in run.task.parameters())
    several = f", {dist.world_size} processes ({run.parallel.mode})" if dist.world_size > 1 else ""
    return (
        f"{run.folder}: {plan.architecture}, {count:,} parameters ({model.layers} layers, width "
        f"{model.d_model}, context {model.context_length}), {material.tokenizer.kind} tokenizer of "
        f"{material.tokenizer.vocab_size:,}, {material.size}, {run.runtime.device} in "
        f"{plan.settings.runtime.dtype}{several}"
    )
