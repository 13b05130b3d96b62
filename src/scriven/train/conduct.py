"""A planned run on its way: the model is built, named to the person, and trained to its end."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..distributed import ALONE, World, contact
from ..runtime import Runtime
from .log import Log, Stopwatch
from .material import Material
from .own import Own
from .plan import Plan
from .pretrain import pretrain
from .stop import Stop
from .trainer import Trainer


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: Path
    results: dict[str, Any]


def run_plan(
    plan: Plan,
    material: Material,
    folder: Path,
    record: dict[str, Any],
    runtime: Runtime,
    stop: Stop,
    clock: Stopwatch,
    own: Own,
    quiet: bool,
    world: World = ALONE,
) -> Trained:
    """Trains what was planned, in a folder that is locked and has its record, to its end; with
    several processes each calls it, and the first one writes."""
    log = Log(folder / "metrics.jsonl" if world.first else None, quiet=quiet or not world.first)
    try:
        with contact() if world.size > 1 else nullcontext():
            run = Trainer(plan, material, folder, record, runtime, log, own, world)
            log.say(introduction(run))
            return Trained(folder, pretrain(run, stop, clock))
    finally:
        log.close()


def introduction(run: Trainer) -> str:
    """What is trained, on what, and where."""
    plan, model, material, world = run.plan, run.plan.model, run.material, run.world
    count = sum(weight.numel() for weight in run.task.parameters())
    several = f", {world.size} processes ({run.parallel.mode})" if world.size > 1 else ""
    return (
        f"{run.folder}: {plan.architecture}, {count:,} parameters ({model.layers} layers, width "
        f"{model.d_model}, context {model.context_length}), {material.tokenizer.kind} tokenizer of "
        f"{material.tokenizer.vocab_size:,}, {material.size}, {run.runtime.device} in "
        f"{plan.settings.runtime.dtype}{several}"
    )
