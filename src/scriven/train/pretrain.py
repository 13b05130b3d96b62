"""One pre-training run from its first step, or from where it stopped, to a finished run folder."""

import shlex
from typing import Any

from ..errors import DamagedError, InputError
from ..runs import checkpoint
from ..runs.huggingface import save_pretrained_files
from ..runs.metadata import write_metadata
from ..runs.model_card import read_loss_curve
from .budget import TrainingHorizon
from .logging import Stopwatch, forget_after
from .loop import Loop
from .signals import Interrupted, StopSignal
from .together import shared
from .train_plan import TrainPlan
from .train_state import Outcome, TrainState
from .trainer import Trainer


def pretrain(run: Trainer, stop: StopSignal, handle_signals: Stopwatch) -> dict[str, Any]:
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
        return _pretrain(run, stop, handle_signals)
    except Interrupted as stopped:
        if run.saved is None or not run.dist.is_main_process:
            raise
        again = f"scriven train --resume {shlex.quote(str(run.folder))}"
        if "finetune" in run.record:
            again = run.record["command"]
        if run.dist.world_size > 1:
            again = "the same command"
        text = f"saved at step {run.saved}; go on with: {again}"
        raise Interrupted(stopped.exit_code - 128, text, run.folder) from None


def _pretrain(run: Trainer, stop: StopSignal, handle_signals: Stopwatch) -> dict[str, Any]:
    plan, folder, log = run.plan, run.folder, run.log
    progress = run.restore()
    if progress is None:
        progress = TrainState()
        run.save(progress)  # proves that the folder can be written before time is spent
        if run.failed:
            raise run.failed
    else:
        if run.dist.is_main_process:
            forget_after(folder / "metrics.jsonl", progress.step, progress.looked)
        handle_signals = Stopwatch(used=progress.seconds, began=handle_signals.began)
        log.event("note", step=progress.step, seconds=round(progress.seconds, 3), text="resumed")
        log.say(f"going on from step {progress.step}")
    clock, halt = shared(run.dist, handle_signals, stop)
    horizon = _horizon(plan, clock, progress)
    run.task.train()
    settings = plan.settings
    rows = (settings.train.batch_size or 1, settings.train.micro_batch_size or 1)
    loop = Loop(
        run.updater,
        run.optimizers,
        run.hooks(),
        horizon,
        settings.optim,
        settings.train,
        rows,
        plan.model.context_length,
        log,
        halt,
        clock,
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
        number = halt.number
        assert number is not None
        raise Interrupted(number)
    return _finish(run, outcome, handle_signals)


def _finish(run: Trainer, outcome: Outcome, handle_signals: Stopwatch) -> dict[str, Any]:
    """Puts the best weights back, and writes what the run achieved."""
    progress, score = outcome.progress, outcome.score
    if progress.best_step != progress.step or score is None:
        try:
            best = checkpoint.load(run.folder, progress.best_step)
            run.parallel.load(best.tensors["model"])
        except (InputError, DamagedError) as error:  # its save failed, or the disk did
            run.log.say(f"the best weights cannot be read, so the last ones stay: {error}")
            progress.best_step = progress.step
        score = run.evaluate()
    assert score is not None
    text = run.sample()  # brings the weights together that are published
    if not run.dist.is_main_process:
        run.dist.barrier()
        return {}
    run.publish(progress.best_step)
    seconds = round(handle_signals.seconds, 3)
    run.log.event("sample", step=progress.best_step, seconds=seconds, prompt="", text=text)
    results = {
        "run": str(run.folder),
        "measure": run.task.loss_unit,
        "val_loss": score.loss,
        "val_accuracy": score.accuracy,
        "val_metrics": score.metrics,
        "best_step": progress.best_step,
        "steps": progress.step,
        "tokens": progress.tokens,
        "seconds": seconds,
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "parameters": sum(weight.numel() for weight in run.shown.parameters()),
        "finished": True,
        "stopped": outcome.reason,
        "sample": text,
        **run.material.results(run, score),
    }
    run.record["results"] = results
    write_metadata(run.folder, run.record)
    save_pretrained_files(
        run.folder, run.describe(read_loss_curve(run.folder))
    )  # the card tells it all now
    run.dist.barrier()
    return results


def _horizon(plan: TrainPlan, handle_signals: Stopwatch, progress: TrainState) -> TrainingHorizon:
    """The end of the run. Training gets at least half of a wall-clock budget, however long the
    text took to prepare; what that grants is kept with the run, which goes on with the same end."""
    if plan.budget.unit != "seconds":
        return TrainingHorizon(steps=plan.steps, seconds=0.0)
    amount = plan.budget.amount
    if progress.step == 0:
        progress.granted = max(0.0, handle_signals.seconds - amount / 2)
    reserve = min(3.0, 0.2 * amount)
    return TrainingHorizon(steps=None, seconds=amount + progress.granted, eval_reserve=reserve)
