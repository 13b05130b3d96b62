"""A run in progress: model, optimizers, folder, and the hooks between loop and files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import find
from ..data.batch import Batch
from ..errors import ResourceError, ScrivenError
from ..evaluate.loss import Score, evaluate_loss
from ..generate.engine import Engine
from ..nn.lora import adapters, merged
from ..run import checkpoint
from ..run.adapter import write_adapter
from ..run.card import Curve
from ..run.huggingface import describe_files
from ..run.publish import publish
from ..run.record import write_record
from ..run.twin import foreign_weights
from ..runtime import Runtime, seed_everything
from ..tasks.base import Objective, Output
from ..tasks.shared.examples import TableTask
from .build import build_task, prepare_weights
from .carry import Carry
from .log import Log
from .material import Material
from .optim import Optimizers
from .own import Own
from .plan import Plan
from .progress import Hooks, Progress, restore_state, state_of
from .update import Updater


class Trainer:
    """A run in progress: the model, its folder, and the hooks between loop and files."""

    def __init__(
        self,
        plan: Plan,
        material: Material,
        folder: Path,
        record: dict[str, Any],
        runtime: Runtime,
        log: Log,
        own: Own,
    ) -> None:
        self.plan, self.material, self.folder, self.record = plan, material, folder, record
        self.runtime, self.log, self.own = runtime, log, own
        seed_everything(plan.seed)
        architecture = find.module("scriven.models", plan.architecture)
        self.architecture = architecture
        self.task = build_task(architecture, plan, own, runtime, material.tokenizer, record)
        settings = plan.settings
        partly = prepare_weights(self.task, architecture, plan, record)
        self.optimizers = Optimizers(self.task, settings.optim, plan.rate, own.optimizer)
        for name, first in partly.items():
            self.optimizers.hold(name, first)
        forward = _compiled(self.task, log) if settings.runtime.compile else None
        self.carry = Carry(self.task.backbone)
        # the rows of a table do not follow each other
        self.flows = not isinstance(self.task, TableTask)
        self.updater = Updater(
            self.task,
            self.optimizers,
            runtime,
            settings.optim.clip,
            forward,
            self.carry if self.flows else None,
        )
        rows = settings.train.batch or 1
        self.feed = material.feed(self.task, plan.seed, rows, runtime.device)
        self.measured = material.measured(self.task)
        for sentence in material.warnings(self.task):
            log.say(sentence)
        self.engine = Engine(self.task, material.tokenizer, runtime, material.opening)
        self.files = self.describe()

    def describe(self, curve: Curve = ()) -> dict[str, bytes]:
        """The files beside the weights; the model card tells what is known by now."""
        return describe_files(
            self.architecture,
            self.plan.model,
            self.folder.name,
            self.material.tokenizer,
            self.record,
            curve,
        )

    def hooks(self) -> Hooks:
        """What the loop calls."""
        return Hooks(
            self.batch,
            self.evaluate,
            self.save,
            self.keep_best,
            self.restore,
            self.sample,
            self.baseline,
        )

    def batch(self, sample: int) -> Batch:
        """The batch whose first row has this number."""
        batch = self.feed.batch(sample)
        return self.carry.follow(sample, batch) if self.flows else batch

    def baseline(self) -> None:
        """Finds what counting reaches, once in the life of a run."""
        if "baseline" in self.record:
            return
        self.record["baseline"], sentence = self.material.baseline()
        try:
            write_record(self.folder, self.record)
        except ResourceError as error:  # the end of the run writes it again
            self.log.say(str(error))
        if not self.task.fills:  # counting sees one side of a gap only
            self.log.say(sentence)

    def evaluate(self, pause: Callable[[], bool] = lambda: False) -> Score | None:
        """Score on the whole validation part."""
        return evaluate_loss(
            self.task,
            self.feed.examine(),
            text_bytes=self.measured,
            runtime=self.runtime,
            metrics=self.own.metrics,
            pause=pause,
        )

    def save(self, progress: Progress) -> None:
        """A checkpoint; a full disk costs this save, never the run. Weights that went bad are not
        saved, so that there is always a good state to go back to."""
        if not all(bool(weight.isfinite().all()) for weight in self.task.parameters()):
            self.log.say("not saved: there are weights that are not finite numbers")
            return
        device = self.runtime.device
        files, state = state_of(self.task, self.optimizers, self.carry, progress, device)
        try:
            checkpoint.save(self.folder, progress.step, files, state)
        except ScrivenError as error:
            self.failed = error
            self.log.say(f"not saved: {error}; the next save tries again")
            return
        self.failed, self.saved = None, progress.step
        if progress.best_rank is None:  # before the first evaluation the newest is the best
            self._try_to_publish(progress)
        keep = self.plan.settings.train.keep
        checkpoint.prune(self.folder, keep, best=progress.best_step, healthy=progress.step)

    failed: ScrivenError | None = None
    """Why the last save failed; None when it did not."""
    saved: int | None = None
    """The step of the last save."""

    def keep_best(self, progress: Progress, score: Score) -> None:
        """Publishes the present weights at the top of the run folder."""
        self._try_to_publish(progress)

    def publish(self, step: int) -> None:
        """Makes the present weights the model of the run folder."""
        plan, architecture = self.plan, self.architecture
        weights = foreign_weights(architecture, plan.model, merged(self.task), plan.task)
        if adapters(self.task):
            folder, base = self.folder / "adapter", self.record["finetune"]["base"]["run"]
            write_adapter(folder, self.task, architecture, plan.model, base, kind=plan.task)
        publish(self.folder, self.files, weights, {"step": str(step)})

    def _try_to_publish(self, progress: Progress) -> None:
        """A full disk costs this publication, never the run: the end publishes again."""
        try:
            self.publish(progress.step)
        except ResourceError as error:
            self.log.say(f"best weights not published: {error}")

    def restore(self) -> Progress | None:
        """Goes back to the newest whole checkpoint, or to nothing."""
        found = checkpoint.load_newest(self.folder)
        if found is None:
            return None
        for warning in found.warnings:
            self.log.say(warning)
        self.saved = found.step
        device = self.runtime.device
        return restore_state(
            self.task, self.optimizers, self.carry, found.tensors, found.state, device
        )

    def sample(self) -> str:
        """A little of what the model makes of the validation part; the same seed each time, so that
        samples compare."""
        text = self.material.sample(self)
        self.task.train()
        return text


def _compiled(task: Objective, log: Log) -> Callable[[Batch], Output]:
    """The task through torch.compile; eager, with one sentence, where that fails (B8)."""
    compiled = torch.compile(task, dynamic=False)
    chosen: list[Callable[[Batch], Output]] = [compiled]

    def forward(batch: Batch) -> Output:
        if chosen[0] is task:
            return task(batch)  # type: ignore[no-any-return]
        try:
            return compiled(batch)  # type: ignore[no-any-return]
        except Exception as error:  # whatever a compiler can raise; eager is always there
            reason = str(error).strip().splitlines()
            log.say(f"torch.compile failed ({reason[0] if reason else error!r}): going on without")
            chosen[0] = task
            return task(batch)  # type: ignore[no-any-return]

    return forward
