"""A run in progress: model, optimizers, folder, and the hooks between loop and files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import registry
from ..data.batch import Batch
from ..distributed import SINGLE_PROCESS, DistributedContext
from ..errors import ResourceError, ScrivenError
from ..evaluate.loss import Score, evaluate_loss
from ..generate.engine import Engine
from ..nn.lora import adapters, merged
from ..runs import checkpoint
from ..runs.huggingface import hf_files, save_pretrained, to_hf_weights
from ..runs.metadata import write_metadata
from ..runs.model_card import LossCurve
from ..runs.peft import write_adapter
from ..runtime import Runtime, seed_everything
from ..tasks.base import Output
from ..tasks.shared.supervised import SupervisedTask
from .build_model import build_task, prepare_weights
from .logging import Log
from .material import Material
from .optim.base import Optimizers
from .parallel import Parallel
from .recurrent_state import RecurrentState
from .request import UserComponents
from .train_plan import TrainPlan
from .train_state import Hooks, TrainState, restore_state, state_of
from .train_step import TrainStep


class Trainer:
    """A run in progress: the model, its folder, and the hooks between loop and files."""

    def __init__(
        self,
        plan: TrainPlan,
        material: Material,
        folder: Path,
        record: dict[str, Any],
        runtime: Runtime,
        log: Log,
        own: UserComponents,
        dist: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.plan, self.material, self.folder, self.record = plan, material, folder, record
        self.runtime, self.log, self.own, self.dist = runtime, log, own, dist
        seed_everything(plan.seed)
        architecture = registry.module("scriven.models", plan.architecture)
        self.architecture = architecture
        self.task = build_task(architecture, plan, own, runtime, material.tokenizer, record)
        settings = plan.settings
        partly = prepare_weights(self.task, architecture, plan, record)
        compiled = partial(_compiled, log=log) if settings.runtime.compile else None
        self.parallel = Parallel(self.task, dist, runtime, settings.runtime, compiled)
        half = runtime.dtype in (torch.bfloat16, torch.float16)
        precision = torch.bfloat16 if half else next(self.task.parameters()).dtype
        self.optimizers = Optimizers(self.task, settings.optim, own.optimizer, precision, dist)
        for name, first in partly.items():
            self.optimizers.freeze_rows(name, first)
        share = dist.batch_shard(settings.train.batch_size or 1)
        self.carry = RecurrentState(self.task.backbone, share)
        # the rows of a table do not follow each other
        self.flows = not isinstance(self.task, SupervisedTask)
        self.updater = TrainStep(
            self.parallel,
            self.optimizers,
            runtime,
            settings.optim.grad_clip,
            self.carry if self.flows else None,
        )
        self.feed = material.feed(self.task, plan.seed, share, runtime.device)
        self.measured = material.measured(self.task)
        for sentence in material.warnings(self.task):
            log.say(sentence)
        self.shown = self.task
        """The model as it is published and writes: a whole one, where the trained one is in
        parts."""
        if self.parallel.mode == "fsdp" and dist.is_main_process:
            self.shown = build_task(architecture, plan, own, runtime, material.tokenizer, record)
        self.engine = Engine(self.shown, material.tokenizer, runtime, material.opening)
        self.files = self.describe()

    def describe(self, curve: LossCurve = ()) -> dict[str, bytes]:
        """The files beside the weights; the model card tells what is known by now."""
        return hf_files(
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
        if "baseline" in self.record or not self.dist.is_main_process:
            return
        self.record["baseline"], sentence = self.material.baseline()
        try:
            write_metadata(self.folder, self.record)
        except ResourceError as error:  # the end of the run writes it again
            self.log.say(str(error))
        if not self.task.is_masked_lm:  # counting sees one side of a gap only
            self.log.say(sentence)

    def evaluate(self, pause: Callable[[], bool] = lambda: False) -> Score | None:
        """Score on the whole validation part."""
        return evaluate_loss(
            self.task,
            self.feed.eval_batches(),
            text_bytes=self.measured,
            runtime=self.runtime,
            metrics=self.own.metrics,
            pause=pause,
            dist=self.dist,
        )

    def save(self, progress: TrainState) -> None:
        """A checkpoint; a full disk costs this save, never the run. Weights that went bad are not
        saved, so that there is always a good state to go back to. All processes hand over what they
        hold, and the first one writes."""
        if self.dist.all_reduce_max(float(not self.parallel.finite())):
            self.log.say("not saved: there are weights that are not finite numbers")
            return
        device = self.runtime.device
        files, state = state_of(self.parallel, self.optimizers, self.carry, progress, device)
        self._draw_anew(progress.step)
        if not self.dist.is_main_process:
            self.saved = progress.step
            return
        self._show(files["model"])
        try:
            checkpoint.save(self.folder, progress.step, files, state)
        except ScrivenError as error:
            self.failed = error
            self.log.say(f"not saved: {error}; the next save tries again")
            return
        self.failed, self.saved = None, progress.step
        if progress.best_rank is None:  # before the first evaluation the newest is the best
            self._try_to_publish(progress)
        keep = self.plan.settings.train.keep_checkpoints
        checkpoint.prune(self.folder, keep, best=progress.best_step, healthy=progress.step)

    failed: ScrivenError | None = None
    """Why the last save failed; None when it did not."""
    saved: int | None = None
    """The step of the last save."""

    def keep_best(self, progress: TrainState, score: Score) -> None:
        """Publishes the present weights at the top of the run folder."""
        self.look()
        if self.dist.is_main_process:
            self._try_to_publish(progress)

    def look(self) -> None:
        """Makes the model that is shown equal to the one that is trained; all processes must."""
        if self.parallel.mode == "fsdp":
            self._show(self.parallel.gathered(self.task.state_dict()))

    def _show(self, weights: dict[str, Tensor]) -> None:
        if self.shown is not self.task:
            self.shown.load_state_dict(weights)

    def _draw_anew(self, step: int) -> None:
        """Other random numbers for each process but the first, whose own are in the checkpoint: a
        function of the step, so that a run that goes on from here draws the same."""
        if not self.dist.is_main_process:
            seed_everything((self.plan.seed * 1_000_003 + step * 1009 + self.dist.rank) % 2**63)

    def publish(self, step: int) -> None:
        """Makes the weights that are shown the model of the run folder."""
        plan, architecture = self.plan, self.architecture
        weights = to_hf_weights(architecture, plan.model, merged(self.shown), plan.task)
        if adapters(self.shown):
            folder, base = self.folder / "adapter", self.record["finetune"]["base"]["run"]
            write_adapter(folder, self.shown, architecture, plan.model, base, kind=plan.task)
        save_pretrained(self.folder, self.files, weights, {"step": str(step)})

    def _try_to_publish(self, progress: TrainState) -> None:
        """A full disk costs this publication, never the run: the end publishes again."""
        try:
            self.publish(progress.step)
        except ResourceError as error:
            self.log.say(f"best weights not published: {error}")

    def restore(self) -> TrainState | None:
        """Goes back to the newest whole checkpoint, or to nothing."""
        found = checkpoint.load_newest(self.folder)
        if self.dist.world_size > 1:  # a save may end between two looks
            found = self._same(found)
        if found is None:
            return None
        for warning in found.warnings:
            self.log.say(warning)
        self.saved = found.step
        device = self.runtime.device
        progress = restore_state(
            self.parallel, self.optimizers, self.carry, found.tensors, found.state, device
        )
        self._draw_anew(found.step)
        return progress

    def _same(self, found: checkpoint.Checkpoint | None) -> checkpoint.Checkpoint | None:
        """The checkpoint that the first process found."""
        step = int(self.dist.broadcast(-1 if found is None else found.step))
        if found is None or found.step != step:
            found = None if step < 0 else checkpoint.load(self.folder, step)
        self.dist.barrier()
        return found

    def sample(self) -> str:
        """A little of what the model makes of the validation part; the same seed each time, so that
        samples compare."""
        self.look()
        if not self.dist.is_main_process:
            return ""
        text = self.material.sample(self)
        self.task.train()
        return text


def _compiled(task: Any, log: Log) -> Callable[[Batch], Output]:
    """The task through torch.compile; eager, with one sentence, where that fails (B8)."""
    compiled = torch.compile(task, dynamic=False)
    chosen: list[Callable[[Batch], Output]] = [compiled]

    def forward(batch: Batch) -> Output:
        if chosen[0] is task:
            return task(batch)
        try:
            return compiled(batch)  # type: ignore[no-any-return,no-untyped-call]
        except Exception as error:  # whatever a compiler can raise; eager is always there
            reason = str(error).strip().splitlines()
            log.say(f"torch.compile failed ({reason[0] if reason else error!r}): going on without")
            chosen[0] = task
            return task(batch)  # type: ignore[no-any-return]

    return forward
