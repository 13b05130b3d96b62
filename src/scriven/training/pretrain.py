"""One pre-training run from a plan to a finished run folder: joins the loop to the files."""

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .. import __version__, config, find
from ..data.batch import Batch
from ..data.corpus import Corpus
from ..data.order import Order
from ..errors import DamagedError, InputError, ResourceError, ScrivenError
from ..evaluate.loss import Metric, Score, evaluate_loss
from ..evaluate.ngram import LARGEST, NGram, usual_order
from ..evaluate.surprise import surprise
from ..generate.engine import Engine
from ..generate.sampling import Sampling
from ..run import checkpoint
from ..run.atomic import write_file
from ..run.huggingface import describe_files, foreign_weights
from ..run.publish import publish
from ..run.record import write_record
from ..runtime import Runtime, seed_everything
from ..tasks.language import Criterion, Language, Output
from .budget import Horizon
from .log import Log, Stopwatch, forget_after
from .loop import Hooks, Loop, Outcome, Progress, restore_state, state_of
from .optim import Custom, Optimizers
from .plan import Plan
from .stop import Interrupted, Stop
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


def new_record(
    plan: Plan, corpus: Corpus, name: str, command: str, runtime: Runtime
) -> dict[str, Any]:
    """The content of scriven.json before the first step."""
    return {
        "scriven": __version__,
        "name": name,
        "architecture": Path(plan.architecture).stem,
        "task": "language",
        "model": config.to_dict(plan.model),
        "settings": {
            **config.to_dict(plan.settings),
            "budget": {"unit": plan.budget.unit, "amount": plan.budget.amount},
            "steps": plan.steps,
            "seed": plan.seed,
        },
        "reasons": plan.reasons,
        "command": command,
        "environment": runtime.describe(),
        "data": {
            "fingerprint": corpus.fingerprint,
            "sources": corpus.sources,
            "characters": corpus.characters,
            "documents": corpus.documents,
            "train_tokens": len(corpus.train),
            "validation_tokens": len(corpus.validation),
            "validation_bytes": corpus.validation_bytes,
            "opening": opening(corpus),
        },
        "tokenizer": {
            "kind": corpus.tokenizer.kind,
            "vocabulary": corpus.tokenizer.vocabulary,
            "fingerprint": corpus.tokenizer.fingerprint,
        },
        "results": None,
    }


class Run:
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
        self.task = _build(architecture, plan, own, runtime)
        settings = plan.settings
        self.optimizers = Optimizers(self.task, settings.optim, plan.rate, own.optimizer)
        forward = _compiled(self.task, log) if settings.runtime.compile else None
        self.updater = Updater(self.task, self.optimizers, runtime, settings.optim.clip, forward)
        self.order = Order(len(corpus.train), plan.model.context + 1, plan.seed)
        self.engine = Engine(self.task, corpus.tokenizer, runtime, opening(corpus))
        self.files = describe_files(architecture, plan.model, folder.name, corpus.tokenizer)

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
        """The batch whose first window has this number."""
        rows = self.plan.settings.train.batch or 1
        starts = self.order.starts(sample, rows)
        window = torch.from_numpy(self.corpus.train.windows(starts, self.order.length))
        window = window.to(self.runtime.device)
        return Batch(window[:, :-1], window[:, 1:])

    def baseline(self) -> None:
        """Finds what counting reaches, once in the life of a run."""
        if "baseline" in self.record:
            return
        counted = self.record["baseline"] = fit_baseline(self.corpus)
        try:
            write_record(self.folder, self.record)
        except ResourceError as error:  # the end of the run writes it again
            self.log.say(str(error))
        self.log.say(
            f"counting {counted['order']}-grams would give a validation loss of "
            f"{counted['loss']:.3f}"
        )

    def evaluate(self, pause: Callable[[], bool] = lambda: False) -> Score | None:
        """Score on the whole validation part."""
        return evaluate_loss(
            self.task,
            self.corpus.validation,
            eos=self.corpus.tokenizer.eos,
            text_bytes=self.corpus.validation_bytes,
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
        files, state = state_of(self.task, self.optimizers, progress, self.runtime.device)
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
        return restore_state(
            self.task, self.optimizers, found.tensors, found.state, self.runtime.device
        )

    def sample(self) -> str:
        """A little of the model's writing; the same seed each time, so that samples compare."""
        made = self.engine.generate(
            [""], Sampling(temperature=0.8), SAMPLE_TOKENS, seed=self.plan.seed, ignore_eos=True
        )
        self.task.train()
        return made[0].text


def pretrain(run: Run, stop: Stop, watch: Stopwatch) -> dict[str, Any]:
    """Trains, or goes on training, until the budget is spent.

    Args:
        run: what to train and where.
        stop: tells when somebody wants the run to end.
        watch: the run's clock; started when the command was.

    Returns:
        The results, as written into scriven.json.

    Raises:
        Interrupted: after saving, when `stop` said so; at once, when it said so twice or before
            or after the steps.
    """
    try:
        return _pretrain(run, stop, watch)
    except Interrupted as stopped:
        if run.saved is None:
            raise
        again = f"scriven train --resume {shlex.quote(str(run.folder))}"
        text = f"saved at step {run.saved}; go on with: {again}"
        raise Interrupted(stopped.exit_code - 128, text, run.folder) from None


def _pretrain(run: Run, stop: Stop, watch: Stopwatch) -> dict[str, Any]:
    plan, folder, log = run.plan, run.folder, run.log
    progress = run.restore()
    if progress is None:
        progress = Progress()
        run.save(progress)  # proves that the folder can be written before time is spent
        if run.failed:
            raise run.failed
    else:
        forget_after(folder / "metrics.jsonl", progress.step)
        watch = Stopwatch(used=progress.seconds, began=watch.began)
        log.event("note", step=progress.step, seconds=round(progress.seconds, 3), text="resumed")
        log.say(f"going on from step {progress.step}")
    horizon = _horizon(plan, watch, progress)
    run.task.train()
    settings = plan.settings
    rows = (settings.train.batch or 1, settings.train.micro_batch or 1)
    loop = Loop(
        run.updater,
        run.optimizers,
        run.hooks(),
        horizon,
        settings.optim,
        settings.train,
        rows,
        log,
        stop,
        watch,
        progress,
    )
    stop.gently = True
    try:
        outcome = loop.run()
    finally:
        stop.gently = False
        log.close()
    progress = outcome.progress
    if run.failed:
        raise run.failed
    if outcome.reason == "interrupted":
        assert stop.number is not None
        raise Interrupted(stop.number)
    return _finish(run, outcome, watch)


def _finish(run: Run, outcome: Outcome, watch: Stopwatch) -> dict[str, Any]:
    """Puts the best weights back, and writes what the run achieved."""
    progress, score = outcome.progress, outcome.score
    if progress.best_step != progress.step or score is None:
        try:
            best = checkpoint.load(run.folder, progress.best_step)
            run.task.load_state_dict(best.tensors["model"])
        except (InputError, DamagedError) as error:  # its save failed, or the disk did
            run.log.say(f"the best weights cannot be read, so the last ones stay: {error}")
            progress.best_step = progress.step
        score = run.evaluate()
    assert score is not None
    run.publish(progress.best_step)
    text = run.sample()
    seconds = round(watch.seconds, 3)
    run.log.event("sample", step=progress.best_step, seconds=seconds, prompt="", text=text)
    tokens = surprise(run.task, run.corpus.validation, run.corpus.tokenizer, run.runtime)
    content = json.dumps({"tokens": tokens}, ensure_ascii=False)
    write_file(run.folder / "surprise.json", content.encode())
    results = {
        "run": str(run.folder),
        "val_loss": score.loss,
        "val_perplexity": score.perplexity,
        "val_bits_per_byte": score.bits_per_byte,
        "val_accuracy": score.accuracy,
        "val_metrics": score.metrics,
        "best_step": progress.best_step,
        "steps": progress.step,
        "tokens": progress.tokens,
        "seconds": seconds,
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "parameters": sum(weight.numel() for weight in run.task.parameters()),
        "ngram_loss": run.record["baseline"]["loss"],
        "ngram_order": run.record["baseline"]["order"],
        "finished": True,
        "stopped": outcome.reason,
        "sample": text,
    }
    run.record["results"] = results
    write_record(run.folder, run.record)
    return results


def _build(architecture: ModuleType, plan: Plan, own: Own, runtime: Runtime) -> Language:
    """The model with fresh weights, on its device."""
    task = Language(architecture.Model(plan.model), own.criterion)
    task.initialise()
    if own.weights is not None:
        task.load_state_dict(own.weights)
    return task.to(runtime.device)


def _compiled(task: Language, log: Log) -> Callable[[Batch], Output]:
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


def _horizon(plan: Plan, watch: Stopwatch, progress: Progress) -> Horizon:
    """The end of the run. Training gets at least half of a wall-clock budget, however long the
    text took to prepare; what that grants is kept with the run, which goes on with the same end."""
    if plan.budget.unit != "seconds":
        return Horizon(steps=plan.steps, seconds=0.0)
    amount = plan.budget.amount
    if progress.step == 0:
        progress.granted = max(0.0, watch.seconds - amount / 2)
    reserve = min(5.0, 0.1 * amount)
    return Horizon(steps=None, seconds=amount + progress.granted, reserve=reserve)


def opening(corpus: Corpus) -> int:
    """The token that an empty prompt stands for.

    Between documents it is EOS. A single document has none, so its model never read one: there a
    text begins as a line does, or, in a text without lines, as that text did.
    """
    tokenizer = corpus.tokenizer
    if corpus.documents > 1:
        return tokenizer.eos
    line = tokenizer.encode("\n")
    beginning = corpus.train.read(0, min(len(corpus.train), 1_000_000))
    return line[0] if len(line) == 1 and line[0] in beginning else int(beginning[0])


def fit_baseline(corpus: Corpus) -> dict[str, Any]:
    """What counting n-grams reaches on the same split."""
    order = usual_order(corpus.tokenizer.kind)
    used = min(len(corpus.train), LARGEST)
    train = corpus.train.read(len(corpus.train) - used, used)
    model = NGram.fit(train, order=order, vocabulary=corpus.tokenizer.vocabulary)
    loss = model.loss(corpus.validation.read(0, len(corpus.validation)))
    bits = loss * len(corpus.validation) / math.log(2) / max(1, corpus.validation_bytes)
    return {"loss": loss, "order": order, "tokens": model.tokens, "bits_per_byte": bits}
