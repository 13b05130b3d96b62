"""The files of a run in training: checkpoints to resume from, and the published best weights."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from .. import registry
from ..errors import DamagedError, InputError, ResourceError, ScrivenError
from ..files import remove_folder
from ..nn.lora import lora_adapters, merged_state_dict
from ..runs import checkpoint
from ..runs.huggingface import hf_files, save_pretrained, save_pretrained_files
from ..runs.load import ADAPTER
from ..runs.metadata import write_metadata
from ..runs.model_card import LossCurve, read_loss_curve
from ..runs.peft import write_adapter
from ..runs.weights import to_hf_weights
from ..runtime import restore_rng_state, rng_state
from .build_model import Parallel, build_task
from .optim.base import Optimizers
from .recurrent_state import TBPTTState
from .trackers.base import Trackers
from .train_state import Run, TrainState


class Checkpointer:
    """Saves, restores and publishes. A full disk costs a save, never the run.

    With several processes each calls every method; rank 0 alone writes.
    """

    def __init__(
        self,
        run: Run,
        trackers: Trackers,
        parallel: Parallel,
        optimizers: Optimizers,
        recurrent_state: TBPTTState | None,
    ) -> None:
        self.run, self.trackers = run, trackers
        self.architecture = registry.module("scriven.models", run.plan.architecture)
        self.parallel, self.task, self.optimizers = parallel, parallel.task, optimizers
        self.adapters_only = "base" in run.metadata and bool(lora_adapters(parallel.task))
        """Whether all but the adapters is in the base model's folder, and never saved again."""
        self.recurrent_state = recurrent_state
        self.dist = run.dist
        self.full_task = parallel.task
        """The model that generates and is published; under FSDP a second one, without shards."""
        if parallel.mode == "fsdp" and self.dist.is_main_process:
            self.full_task = build_task(run)
        self.error: ScrivenError | None = None
        """Why the last save failed; None if it did not."""
        self.saved_step = 0
        """The step from which a run that stops now goes on; the first one needs no checkpoint."""
        if not self.dist.is_main_process:
            self.reseed(0)

    @property
    def folder(self) -> Path:
        """Of the checkpoints."""
        return checkpoint.branch_folder(self.run.folder, self.run.branch)

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint, unless a weight is NaN or infinite: there is always a good one to
        return to."""
        # 1. every process has to hold finite weights, and all of them decide alike
        mine = (getattr(weight, "_local_tensor", weight) for weight in self.optimizers.parameters)
        finite = all(bool(weight.isfinite().all()) for weight in mine)
        if self.dist.all_reduce([float(not finite)], "MAX")[0]:
            self.trackers.on_message("not saved: some weights are NaN or infinite")
            return
        # 2. full tensors, so that a run resumes on any number of processes; all of them take part
        tensors, numbers = self.optimizers.state()
        groups = {
            "model": self.parallel.full_tensors(self._state_dict()),
            "optimizer": self.parallel.full_tensors(tensors),
            "random": rng_state(self.run.runtime.device),
        }
        recurrent = self.recurrent_state
        if recurrent is not None and (tensors := recurrent.state_dict(self.dist)):
            groups["recurrent_state"] = tensors
        values = {"progress": asdict(state), "optimizer": numbers}
        if not self.dist.is_main_process:
            self.reseed(state.step)
            self.saved_step = state.step
            return
        if self.full_task is not self.task:
            self.full_task.load_state_dict(groups["model"])
        # 3. a folder that appears as a whole or not at all
        try:
            checkpoint.save(self.folder, state.step, groups, values)
        except ScrivenError as error:
            self.error = error
            self.trackers.on_message(f"not saved: {error}; the next save tries again")
            return
        self.error, self.saved_step = None, state.step
        if state.step > 0:
            # before the first evaluation the newest weights are the best; random ones help nobody
            if state.best_score is None and not self.run.branch:
                self.try_to_publish(state.step)
            # 4. old checkpoints go, but never the best, the last good one, or the last before the
            # learning rate fell
            keep = self.run.plan.settings.train.keep_checkpoints
            best, flat = state.best_step, state.flat_step
            checkpoint.prune(self.folder, keep, best, healthy=state.step, flat=flat)
        self.trackers.on_save(state)

    def restore(self) -> TrainState | None:
        """Loads the newest undamaged checkpoint, of a new branch the one from which it begins; None
        if there is none."""
        newest, extension = checkpoint.load_newest(self.folder), self.run.extension
        if self.dist.world_size > 1:  # a save may end while the processes look, one after the other
            step = int(self.dist.broadcast(-1 if newest is None else newest.step))
            if newest is None or newest.step != step:
                newest = None if step < 0 else checkpoint.load_step(self.folder, step)
            self.dist.barrier()
        if newest is None and extension:
            before = checkpoint.branch_folder(self.run.folder, extension["from_branch"])
            newest = checkpoint.load_step(before, extension["from_step"])
        if newest is None:
            return None
        for warning in newest.warnings:
            self.trackers.on_message(warning)
        self.saved_step = newest.step
        # full tensors are sharded as the weights lie in this run
        self._load(newest.tensors["model"])
        self.optimizers.restore(newest.tensors["optimizer"], newest.state["optimizer"])
        if self.recurrent_state is not None:
            self.recurrent_state.load_state_dict(newest.tensors.get("recurrent_state", {}))
        # last, as nothing after it may draw a random number
        restore_rng_state(newest.tensors["random"], self.run.runtime.device)
        if not self.dist.is_main_process:
            self.reseed(newest.step)
        return TrainState(**newest.state["progress"])

    def reinitialize(self) -> TrainState:
        """The state before the first step, drawn again from the seed where nothing was saved yet,
        and saved now.

        Raises:
            ScrivenError: the run began from weights that have been trained since.
        """
        if not self.run.starts_from_seed:
            raise ScrivenError("the loss is NaN or infinite, and no checkpoint is left")
        torch.manual_seed(self.run.plan.seed)
        self._load(build_task(self.run).state_dict())
        for optimizer in self.optimizers.optimizers:
            optimizer.state.clear()
        state = TrainState()
        self.save(state)
        return state

    def load_best(self, state: TrainState) -> None:
        """Loads the weights of the best evaluation, of an earlier branch if that is not beaten; the
        present ones stay if that fails."""
        folder, extension = self.folder, self.run.extension
        if extension and not self.run.is_beaten_by(state.best_score):
            folder = checkpoint.branch_folder(self.run.folder, extension["best_branch"])
            state.best_step = extension["best_step"]
        try:
            best = checkpoint.load_step(folder, state.best_step)
            self._load(best.tensors["model"])
        except (InputError, DamagedError) as error:  # its save failed, or the disk did
            if state.best_step == 0 and self.run.starts_from_seed:  # it was not saved
                self.reinitialize()
                return
            self.trackers.on_message(
                f"the best weights cannot be read, so the last ones stay: {error}"
            )
            state.best_step = state.step

    def gather_weights(self) -> None:
        """Brings `full_task` up to date."""
        if self.parallel.mode == "fsdp":
            weights = self.parallel.full_tensors(self.task.state_dict())
            if self.full_task is not self.task:
                self.full_task.load_state_dict(weights)

    def publish(self, step: int, final: bool = False) -> None:
        """Makes the weights of `full_task` the model of the run folder, in the Hugging Face
        layout; adapters to a base model alone, unless whole weights were asked for."""
        plan, metadata = self.run.plan, self.run.metadata
        task, architecture, model = self.full_task, self.architecture, plan.model
        # 1. adapters, in a folder of their own
        if lora_adapters(task):
            base = (metadata.get("base") or metadata["finetune"]["base"])["run"]
            folder = self.run.folder / ADAPTER
            # of a frozen base, in the precision that they were evaluated in
            dtype = self.run.runtime.dtype if self.adapters_only else None
            write_adapter(folder, task, architecture, model, base, kind=plan.task, dtype=dtype)
        if self.adapters_only and not (final and metadata["base"]["merge"]):
            save_pretrained_files(self.run.folder, self._model_files)
            return
        # 2. the whole weights, adapters merged into them
        weights = to_hf_weights(architecture, model, merged_state_dict(task), plan.task)
        save_pretrained(self.run.folder, self._model_files, weights, {"step": str(step)})

    def _state_dict(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds of the weights."""
        state = self.task.state_dict()
        if self.adapters_only:
            state = {name: weight for name, weight in state.items() if ".lora." in name}
        return state

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.parallel.load(weights, strict=not self.adapters_only)

    def try_to_publish(self, step: int) -> None:
        """As `publish`; the end of the run publishes again what a full disk prevented."""
        if not self.dist.is_main_process:
            return
        try:
            self.publish(step)
        except ResourceError as error:
            self.trackers.on_message(f"best weights not published: {error}")

    def write_metadata(self) -> None:
        """Writes scriven.json; the end of the run writes again what a full disk prevented."""
        try:
            write_metadata(self.run.folder, self.run.metadata)
        except ResourceError as error:
            self.trackers.on_message(str(error))

    def write_results(self, results: dict[str, Any]) -> None:
        """Marks the run as finished: scriven.json and the model card have its results."""
        self.run.metadata["results"] = results
        write_metadata(self.run.folder, self.run.metadata)
        # of earlier branches only the best model of all is of use
        best = (self.run.extension.get("best_branch"), results["best_step"])
        for branch in range(self.run.branch):
            folder = checkpoint.branch_folder(self.run.folder, branch)
            for step in checkpoint.steps(folder):
                if (branch, step) != best:
                    remove_folder(folder / checkpoint.FOLDER / f"step-{step}")
        save_pretrained_files(self.run.folder, self._describe(read_loss_curve(self.run.folder)))

    @cached_property
    def _model_files(self) -> dict[str, bytes]:
        return self._describe()

    def _describe(self, curve: LossCurve = ()) -> dict[str, bytes]:
        """The published files beside the weights: config, tokenizer, model card."""
        run, tokenizer = self.run, self.run.dataset.tokenizer
        name, model = run.folder.name, run.plan.model
        return hf_files(self.architecture, model, name, tokenizer, run.metadata, curve)

    def reseed(self, step: int) -> None:
        """Random numbers of all ranks but 0, whose own are in the checkpoint: a function of the
        step, so that a run which resumes draws the same."""
        seed = self.run.plan.seed * 1_000_003 + step * 1009 + self.dist.rank
        torch.manual_seed(seed % 2**63)
