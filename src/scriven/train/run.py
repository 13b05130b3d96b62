"""From a request to a trained run folder: a new run, one to resume, or a finished one.

The order matters: nothing is written before everything that can be refused has been refused.
"""

import json
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import config, registry
from ..distributed import (
    DistributedContext,
    distributed_errors,
    init_distributed,
    is_distributed,
    is_main_process,
)
from ..errors import BusyError, InputError, LostError, ScrivenError, SettingError
from ..files import remove_leftovers
from ..notebook import is_notebook
from ..report.page import write_report
from ..runs.folder import create_run_dir, find_run, lock_run
from ..runs.huggingface import rewrite_model_card
from ..runs.metadata import check_size, read_run_metadata, write_metadata
from ..runtime import Runtime, choose_runtime
from ..settings import Settings
from .adapt import Adaptation
from .adapt_trainer import AdaptTrainer
from .autoconfig import TrainPlan
from .datasets import TrainDataset
from .extension import extend
from .finetune import Finetuning
from .pretrain import Pretraining
from .request import Overrides, TrainRequest, UserComponents, read_overrides
from .resume import check_resume_config, plan_from_metadata
from .schedule import Budget
from .stopping import Interrupted, StopSignal, handle_signals
from .trackers import console, jsonl, notebook
from .trackers.base import BaseTracker, Trackers
from .train_state import USER_COMPONENTS, Run, new_metadata
from .trainer import Trainer

CONTROL = "control"
"""The folder of the control run, inside that of a fine-tuning: the same without pre-training."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    folder: Path
    results: dict[str, Any]
    """As in scriven.json."""


def train_and_report(
    request: TrainRequest,
    components: UserComponents | None = None,
    trackers: Sequence[BaseTracker] = (),
) -> TrainResult:
    """As `start_or_resume`, with the control that was asked for, and the report of the run; an
    interrupted run gets a report too."""
    try:
        if request.control:
            trained = train_with_control(request)
        else:
            trained = start_or_resume(request, components, trackers)
    except Interrupted as stopped:
        if stopped.folder is not None and is_main_process():
            with suppress(ScrivenError):  # the exit code and the advice matter more
                write_report(stopped.folder)
        raise
    if is_main_process():  # the other processes of a distributed training write nothing
        write_report(trained.folder)
    return trained


def start_or_resume(
    request: TrainRequest,
    components: UserComponents | None = None,
    trackers: Sequence[BaseTracker] = (),
) -> TrainResult:
    """Trains a new run, or resumes an interrupted one, to its end; `trackers` are further ones,
    besides those of the settings.

    Raises:
        ScrivenError: the request cannot be fulfilled; says why and what to do.
        Interrupted: a signal arrived; the state is saved.
    """
    began = time.monotonic() if request.began is None else request.began
    if request.base is not None:
        if not request.sources:
            raise InputError(
                "no data: give a .csv, .tsv, .jsonl or .parquet file, or a built-in table"
            )
        if is_distributed():
            raise SettingError("finetune is the work of one process: start it without torchrun")
    with handle_signals() as stop:
        # 1. settings: the command line over the preset over the defaults
        overrides = read_overrides(request)
        settings = overrides.apply(Settings())
        # 2. with torchrun: rank 0 decides what is trained, and the other processes wait for it
        dist = init_distributed(settings.runtime.distributed_timeout)
        broadcast = RunBroadcast(dist, done=dist.world_size == 1)
        try:
            watching = Trackers([])
            if dist.is_main_process:
                watching = load_trackers(settings.train.trackers, request.quiet, trackers)
            say = watching.on_message
            source: Pretraining | Finetuning
            if request.resume is not None and request.start is None:
                request = _with_start(request)
            if request.start is not None:
                source = Adaptation(request, overrides, settings, dist, say)
            elif request.base is None:
                given = None if components is None else components.tokenizer
                source = Pretraining(request, overrides, settings, dist, say, given=given)
            else:
                source = Finetuning(request, overrides, settings, say)
            launch = _Launch(
                request, overrides, components or UserComponents(), source, watching, broadcast,
                stop, began,
            )  # fmt: skip
            if not dist.is_main_process:
                return launch.follow()
            # 3. a new run or one to resume, whichever the folder holds
            folder = source.load()
            exists = os.path.exists(folder / "scriven.json")  # False for too long a name
            return launch.resume(folder) if exists else launch.begin(folder)
        finally:
            broadcast.close()


def train_with_control(request: TrainRequest) -> TrainResult:
    """Trains from a model, then the control without it, and saves both results together.

    The control of a fine-tuning is the same model with random weights; that of a model which goes
    on with other texts is a new one, chosen for them.
    """
    if request.base is not None:
        names = ("val_loss", "val_scores", "val_rows", "steps", "seconds")
        return _with_control(request, replace(request, fresh=True), names)
    if request.start is None:
        raise SettingError("--control is for a training that goes on from a model: add --from RUN")
    kept = ("data.", "runtime.")
    settings = {name: each for name, each in request.settings.items() if name.startswith(kept)}
    fresh = replace(request, start=None, replay=None, merge=False, control=False, settings=settings)
    names = ("val_loss", "val_bits_per_byte", "parameters", "steps", "seconds")
    return _with_control(request, fresh, names)


def _with_control(request: TrainRequest, fresh: TrainRequest, names: Sequence[str]) -> TrainResult:
    finetuned = start_or_resume(request)
    inside, command = str(finetuned.folder / CONTROL), request.command
    control = start_or_resume(replace(fresh, out=inside, began=None, resume_command=command))
    results = {**finetuned.results, "control": {name: control.results[name] for name in names}}
    metadata = read_run_metadata(finetuned.folder) | {"results": results}
    write_metadata(finetuned.folder, metadata)
    rewrite_model_card(finetuned.folder, metadata)
    return TrainResult(finetuned.folder, results)


def _with_start(request: TrainRequest) -> TrainRequest:
    """A request to resume a run that may have gone on from a model, with that model in it."""
    assert request.resume is not None
    base = read_run_metadata(find_run(request.resume)).get("base")
    return request if base is None else replace(request, start=base["run"])


@dataclass(frozen=True)
class _Launch:
    """A run on its way from request to training."""

    request: TrainRequest
    overrides: Overrides
    user_components: UserComponents
    source: Pretraining | Finetuning
    trackers: Trackers
    broadcast: "RunBroadcast"
    stop: StopSignal
    began: float

    def begin(self, folder: Path) -> TrainResult:
        """A run that does not exist yet."""
        request, source, dist = self.request, self.source, self.broadcast.dist
        # 1. plan the run; everything that is refused is refused before the folder is made
        plan, runtime = source.plan()
        dist.batch_shard(plan.settings.train.batch_size or 1)  # refuses what cannot be divided
        dataset = source.dataset(plan)
        metadata = new_metadata(
            plan, dataset, folder.name, request.command, runtime, self.user_components,
            source.finetune_info, source.base_info, dist.world_size,
        )  # fmt: skip
        check_size(metadata)
        # 2. the folder, under a lock
        folder = create_run_dir(folder)
        metadata["name"] = folder.name  # of a link, the folder it points to
        for sentence in source.notes:
            self.trackers.on_message(sentence)
        if request.explain:
            self.trackers.on_message(source.explain(plan))
        with lock_run(folder):
            # two commands may have planned the same new folder; only now it is sure who is first
            if (folder / "scriven.json").exists():
                raise BusyError(f"{folder} was made by another process just now: try again")
            write_metadata(folder, metadata)
            # 3. train
            return self.train(plan, dataset, folder, metadata, runtime, is_new=True)

    def resume(self, folder: Path) -> TrainResult:
        """A run that exists: its results if it is finished, else the rest of its training."""
        request, source, dist = self.request, self.source, self.broadcast.dist
        # 1. is it the same run? only settings that change nothing may differ
        metadata = read_run_metadata(folder)
        self._check_kind(folder, metadata)
        longer = request.resume is not None
        plan, changes = check_resume_config(metadata, self.overrides, folder, longer)
        source.check_resumable(folder, metadata, plan)
        before = Budget(**metadata["settings"]["budget"])
        if metadata["results"] is not None and plan.budget == before:
            self.trackers.on_message(
                f"{folder} is finished; use --out NEW for another run, or more budget, such as "
                f"--budget +{before}, to train it longer"
            )
            remove_leftovers(folder)  # of a kill after the results were written
            self.broadcast.send(folder, source.sources, finished=True)
            return TrainResult(folder, {**metadata["results"], "run": str(folder)})
        # an optimizer or loss from Python is not in the run folder, so it has to be given again
        for name in metadata.get("user_components", []):
            if getattr(self.user_components, USER_COMPONENTS[name]) is None:
                raise InputError(
                    f"{folder} was begun from Python with an {name} of your own: go on from there"
                )
        dataset = source.dataset(plan)
        if dataset.tokenizer.fingerprint != metadata["tokenizer"]["fingerprint"]:
            raise InputError(f"{folder} was fine-tuned from another model: use --out NEW")
        # 2. the machine may be another one
        dist.batch_shard(plan.settings.train.batch_size or 1)
        runtime = choose_runtime(plan.settings.runtime, (dist.local_rank, dist.local_world_size))
        environment = metadata["environment"]
        processes = environment.get("processes", 1)
        if dist.world_size != processes:
            changes.append(
                f"on {dist.world_size} processes, not {processes}: the same text in the same "
                "order; dropout draws other random numbers"
            )
            environment["processes"] = dist.world_size
        if runtime.threads != environment["threads"]:
            self.trackers.on_message(
                "another number of threads than before: the numbers may differ in the last digits"
            )
        # 3. train
        with lock_run(folder):
            if plan.budget != before:
                changes += extend(folder, metadata, plan, self.overrides.budget)
            for sentence in changes:
                self.trackers.on_message(sentence)
            if request.explain:
                self.trackers.on_message(source.explain(plan))
            if changes:
                self._write_changes(folder, metadata, plan)
            return self.train(plan, dataset, folder, metadata, runtime)

    def follow(self) -> TrainResult:
        """Any process but rank 0: trains what rank 0 has planned and written down."""
        assert isinstance(self.source, Pretraining)
        message, dist = self.broadcast.receive(), self.broadcast.dist
        if not message:
            raise SystemExit(2)  # rank 0 has said why
        folder = Path(message["folder"])
        metadata = read_run_metadata(folder)
        if message["finished"]:
            return TrainResult(folder, {**metadata["results"], "run": str(folder)})
        # the plan is read, not made again: all processes have to train exactly the same
        plan = plan_from_metadata(metadata, self.request.arch, self.overrides.sections.get("optim"))
        dataset = self.source.follow(message["sources"], metadata, plan)
        runtime = choose_runtime(plan.settings.runtime, (dist.local_rank, dist.local_world_size))
        return self.train(plan, dataset, folder, metadata, runtime, message["is_new"])

    def train(
        self,
        plan: TrainPlan,
        dataset: TrainDataset,
        folder: Path,
        metadata: dict[str, Any],
        runtime: Runtime,
        is_new: bool = False,
    ) -> TrainResult:
        """Trains to the end; a signal is reported with the command that resumes the run."""
        dist = self.broadcast.dist
        if not self.broadcast.done:  # the other processes wait for this
            self.broadcast.send(folder, self.source.sources, is_new=is_new)
        components = replace(
            self.user_components,
            base_weights=self.source.base_weights,
            base_task=self.source.base_task or self.user_components.base_task,
        )
        run = Run(plan, dataset, folder, metadata, runtime, components, dist, is_new)
        trainer: Trainer | None = None
        try:
            # a lost process becomes one line of text, whatever the backend raises
            with distributed_errors() if dist.world_size > 1 else nullcontext():
                kind = AdaptTrainer if "base" in metadata else Trainer
                if plan.task == "dpo":
                    from .preference import PreferenceTrainer

                    kind = PreferenceTrainer
                trainer = kind(run, self.trackers, self.stop, self.began)
                return TrainResult(folder, trainer.fit())
        except Interrupted as stopped:
            if trainer is None or not dist.is_main_process:
                raise
            step = trainer.checkpointer.saved_step
            # the command that resumes this run, for the user
            command = f"scriven train --resume {shlex.quote(str(folder))}"
            if "finetune" in metadata:
                command = metadata["command"]
            if dist.world_size > 1:
                command = "the same command"
            text = f"saved at step {step}; go on with: {command}"
            raise Interrupted(stopped.exit_code - 128, text, folder) from None
        finally:
            self.trackers.close()

    def _check_kind(self, folder: Path, metadata: dict[str, Any]) -> None:
        """Refuses to resume a fine-tuning as a pre-training, and the other way round."""
        if isinstance(self.source, Pretraining):
            if "finetune" in metadata:
                raise InputError(f"{folder} is a fine-tuning: go on with `{metadata['command']}`")
            if ("base" in metadata) != isinstance(self.source, Adaptation):
                begun = "from a model: add --from" if "base" in metadata else "without --from"
                raise InputError(f"{folder} was begun {begun}, or use --out NEW for a new run")
        elif metadata.get("task") != self.source.table.name or "finetune" not in metadata:
            raise InputError(
                f"{folder} is a run for {metadata.get('task')}, not {self.source.table.name}: "
                "use --out NEW"
            )

    def _write_changes(self, folder: Path, metadata: dict[str, Any], plan: TrainPlan) -> None:
        metadata["settings"].update(config.to_dict(plan.settings))
        metadata["settings"]["budget"] = config.to_dict(plan.budget)
        metadata["settings"]["steps"] = plan.steps
        if self.request.base is not None:  # a pre-training resumes with --resume instead
            metadata["command"] = self.request.command
        write_metadata(folder, metadata)


@dataclass
class RunBroadcast:
    """How rank 0 tells the other processes what is trained, once nothing can be refused."""

    dist: DistributedContext
    done: bool
    """Whether nobody is waiting: the message was sent, or there is one process only."""

    def send(
        self, folder: Path, sources: Sequence[str], finished: bool = False, is_new: bool = False
    ) -> None:
        """All processes train this run; or it is finished, and they end."""
        if not self.done:
            self.done = True
            message = {"folder": str(folder), "sources": list(sources)}
            flags = {"finished": finished, "is_new": is_new}
            self.dist.broadcast_str(json.dumps(message | flags))

    def receive(self) -> dict[str, Any]:
        """The message of rank 0; empty if it gave up."""
        self.done = True
        message: dict[str, Any] = json.loads(self.dist.broadcast_str(""))
        return message

    def close(self) -> None:
        """Lets the other processes go if there is nothing to train."""
        if not self.done:
            # rank 0 has an error to report already, whether or not the others still listen
            with suppress(LostError):
                self.dist.broadcast_str("{}")


def load_trackers(names: str, quiet: bool, more: Sequence[BaseTracker] = ()) -> Trackers:
    """metrics.jsonl, console or notebook, the trackers named in `train.trackers`, and `more`.

    Raises:
        InputError: an unknown name. MissingExtra: its package is not installed.
    """
    # the file is written first, as a closed terminal ends nothing
    trackers: list[BaseTracker] = [jsonl.Tracker()]
    if not quiet:
        shown = notebook.Tracker() if is_notebook() else console.Tracker()
        trackers = [jsonl.Tracker(warn=shown.on_message), shown]
    for name in filter(None, (name.strip() for name in names.split(","))):
        if name not in ("console", "jsonl", "notebook"):
            trackers.append(registry.module("scriven.train.trackers", name).Tracker())
    return Trackers([*trackers, *more])
