"""A run in progress: model, optimizers, folder, and the hooks between loop and files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .. import find
from ..data.batch import Batch
from ..data.corpus import Corpus
from ..data.pairs import Pairs
from ..errors import ResourceError, ScrivenError
from ..evaluate.loss import Metric, Score, bytes_measured, evaluate_loss
from ..generate.engine import Engine
from ..generate.sampling import Sampling
from ..run import checkpoint
from ..run.card import Curve
from ..run.huggingface import describe_files, foreign_weights
from ..run.publish import publish
from ..run.record import write_record
from ..runtime import Runtime, seed_everything
from ..tasks.base import Criterion, Objective, Output
from ..text import Tokenizer
from .carry import Carry
from .feed import feed_for
from .log import Log
from .optim import Custom, Optimizers
from .plan import Plan
from .progress import Hooks, Progress, restore_state, state_of
from .record import fit_baseline, opening
from .update import Updater

SAMPLE_TOKENS = 200


@dataclass(frozen=True)
class Own:
    """The user's own parts, from Python."""

    optimizer: Custom | None = None
    criterion: Criterion | None = None
    metrics: Mapping[str, Metric] | None = None
    weights: dict[str, torch.Tensor] | None = None
    """To start from, instead of fresh ones."""

    def names(self) -> list[str]:
        """Which parts are the user's own; a run begun with them goes on only with them."""
        parts = {"optimizer": self.optimizer, "loss": self.criterion}
        return [name for name, part in parts.items() if part is not None]


class Trainer:
    """A run in progress: the model, its folder, and the hooks between loop and files."""

    def __init__(
        self,
        plan: Plan,
        corpus: Corpus,
        folder: Path,
        record: dict[str, Any],
        runtime: Runtime,
        log: Log,
        own: Own,
    ) -> None:
        self.plan, self.corpus, self.folder, self.record = plan, corpus, folder, record
        self.runtime, self.log, self.own = runtime, log, own
        seed_everything(plan.seed)
        architecture = find.module("scriven.models", plan.architecture)
        self.architecture = architecture
        self.task = _build(architecture, plan, own, runtime, corpus.tokenizer)
        settings = plan.settings
        self.optimizers = Optimizers(self.task, settings.optim, plan.rate, own.optimizer)
        forward = _compiled(self.task, log) if settings.runtime.compile else None
        self.carry = Carry(self.task.backbone)
        self.updater = Updater(
            self.task, self.optimizers, runtime, settings.optim.clip, forward, self.carry
        )
        rows, context = settings.train.batch or 1, plan.model.context
        self.feed = feed_for(corpus, self.task, plan.seed, rows, runtime.device)
        held_out = corpus.validation
        self.measured = bytes_measured(
            self.task, held_out, corpus.tokenizer, corpus.validation_bytes
        )
        if corpus.pairs and (cut := Pairs(corpus.train, corpus.tokenizer.eos).cut(context)):
            log.say(f"{cut:,} pairs have a side longer than {context} tokens, which loses its end")
        self.engine = Engine(self.task, corpus.tokenizer, runtime, opening(corpus))
        self.files = self.describe()

    def describe(self, curve: Curve = ()) -> dict[str, bytes]:
        """The files beside the weights; the model card tells what is known by now."""
        return describe_files(
            self.architecture,
            self.plan.model,
            self.folder.name,
            self.corpus.tokenizer,
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
        return self.carry.follow(sample, self.feed.batch(sample))

    def baseline(self) -> None:
        """Finds what counting reaches, once in the life of a run."""
        if "baseline" in self.record:
            return
        counted = self.record["baseline"] = fit_baseline(self.corpus)
        try:
            write_record(self.folder, self.record)
        except ResourceError as error:  # the end of the run writes it again
            self.log.say(str(error))
        if self.task.writes:  # counting sees one side of a gap only
            self.log.say(
                f"counting {counted['order']}-grams would give a validation loss of "
                f"{counted['loss']:.3f}"
            )

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
        if progress.best_loss is None:  # before the first evaluation the newest is the best
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
        weights = foreign_weights(self.architecture, self.plan.model, self.task.state_dict())
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
        """A little of the model's writing; the same seed each time, so that samples compare."""
        if not self.task.writes:
            from ..generate.fill import show

            count = min(SAMPLE_TOKENS, self.plan.model.context, len(self.corpus.validation))
            ids = self.corpus.validation.read(0, count).tolist()
            return show(self.task, self.corpus.tokenizer, ids, self.plan.seed)
        if not self.task.continues:
            return self._answers()
        made = self.engine.generate(
            [""], Sampling(temperature=0.8), SAMPLE_TOKENS, seed=self.plan.seed, ignore_eos=True
        )
        self.task.train()
        return made[0].text

    def _answers(self) -> str:
        """A few sources of the validation part with what the model makes of them."""
        tokenizer = self.corpus.tokenizer
        pairs = Pairs(self.corpus.validation, tokenizer.eos)
        sources = [tokenizer.decode(ids) for ids in pairs.read(range(min(3, len(pairs))))[0]]
        made = self.engine.generate(sources, Sampling(temperature=0), SAMPLE_TOKENS)
        self.task.train()
        return "\n\n".join(
            f"{source}\n-> {each.text}" for source, each in zip(sources, made, strict=True)
        )


def _build(
    architecture: ModuleType, plan: Plan, own: Own, runtime: Runtime, tokenizer: Tokenizer
) -> Objective:
    """The model with fresh weights, on its device."""
    kind = find.module("scriven.tasks", plan.task)
    task: Objective = kind.Task(architecture.Model(plan.model), own.criterion, tokenizer.structure)
    task.initialise()
    if own.weights is not None:
        task.load_state_dict(own.weights)
    return task.to(runtime.device)


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
