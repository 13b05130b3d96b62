"""The training loop: the only one, for every architecture and task.

Reads batches by number, updates, looks at the validation part now and then, saves, and stops when
the budget is spent, when nothing improves any more, or when somebody asks it to. It knows no
files: what to do with a checkpoint or with better weights is handed in (`Hooks`).
"""

import math

from ..errors import ScrivenError
from ..evaluate.loss import Score
from ..runtime import keep_random_state
from ..settings import OptimSettings, TrainSettings
from .budget import TrainingHorizon
from .logging import Line, Log, Stopwatch
from .lr_schedule import lr_multiplier, sequence_splits
from .optim.base import Optimizers
from .signals import StopSignal
from .train_state import Hooks, Outcome, TrainState
from .train_step import StepMetrics, TrainStep
from .window import Window

ROLLBACKS = 3
"""Returns to the last good state before a run gives up."""


class Loop:
    """One run. Call `run` once."""

    def __init__(
        self,
        updater: TrainStep,
        optimizers: Optimizers,
        hooks: Hooks,
        horizon: TrainingHorizon,
        optim: OptimSettings,
        settings: TrainSettings,
        rows: tuple[int, int],
        context: int,
        log: Log,
        stop: StopSignal,
        handle_signals: Stopwatch,
        progress: TrainState,
    ) -> None:
        self.updater, self.optimizers = updater, optimizers
        self.hooks, self.horizon = hooks, horizon
        self.optim, self.settings, self.log, self.stop = optim, settings, log, stop
        self.batch_rows, self.micro_rows = rows
        self.context_length = context
        self.watch, self.progress = handle_signals, progress
        self.horizon.budget_fraction = progress.shortened
        self.score: Score | None = None
        self.evaluation_seconds = 0.0
        self.now = handle_signals.seconds
        """The clock as it was last read: once in each update, so that all that depends on it is
        decided by one figure."""
        self.window, self.total = Window(self.now), Window(self.now)
        self.saved = self.sampled = self.now

    def run(self) -> Outcome:
        """Trains until the budget is spent; the last state is saved whatever happens."""
        progress, reason = self.progress, "budget"
        if progress.step and self._evaluation_due() and progress.looked != progress.step:
            progress.converged = not self._look()  # the one that was interrupted
        while self._share() < 1 and not self.stop and not progress.converged:
            self._update()
            progress = self.progress  # another one after a return to a good state
            if self._evaluation_due() and not self._look():
                progress.converged = True
                break
            self._sample_if_due()
            self._save_if_due()
        if progress.converged:
            reason = "converged"
        if self.stop:
            reason = "interrupted"
        elif progress.looked != progress.step:
            self._look(last=True)
            if self.stop:
                reason = "interrupted"
        self._save()
        return Outcome(progress, reason, self.total.rate(self.now), self.score)

    def _share(self) -> float:
        return self.horizon.progress(self.progress.step, self.now)

    def _read(self) -> float:
        self.now = self.watch.seconds
        return self.now

    def _update(self) -> None:
        progress, share = self.progress, self._share()
        initial = self.settings.initial_context_length
        splits = sequence_splits(self.context_length, initial, share)
        batch = self.hooks.batch(progress.samples).split_sequences(splits)
        multiplier = lr_multiplier(self.optim, share) * progress.caution
        update = self.updater(batch, self.micro_rows * splits, multiplier)
        progress.step += 1
        progress.samples += self.batch_rows
        progress.tokens += update.read
        progress.seconds = self._read()
        if update.applied:
            progress.bad = 0
        else:
            self._skipped(update)
        self.window.add(update)
        self.total.add(update)
        self._report(share)

    def _report(self, share: float) -> None:
        now, progress = self.now, self.progress
        first = progress.step == 1
        due = first or now - self.window.began >= self.settings.log_seconds
        if not due and self.log.bar is None:
            return
        line = Line(
            seconds=now,
            step=progress.step,
            steps=self.horizon.steps,
            left=self._left(share, now),
            tokens_per_second=self.window.rate(now),
            train_loss=self.window.loss,
            train_accuracy=self.window.accuracy,
            val_loss=self.score.loss if self.score else None,
            val_accuracy=self.score.accuracy if self.score else None,
        )
        self.log.progress(line, share, shown=due)
        if due:
            self.log.event(
                "step",
                step=progress.step,
                tokens=progress.tokens,
                seconds=round(now, 3),
                loss=self.window.loss,
                accuracy=self.window.accuracy,
                lr=self.optimizers.lr,
                tokens_per_second=round(line.tokens_per_second),
            )
            self.window = Window(now)

    def _left(self, share: float, now: float) -> float | None:
        """Seconds to the end, from the pace of this session's steps."""
        if self.horizon.steps is None:
            return max(0.0, self.horizon.seconds * self.horizon.budget_fraction - now)
        pace = (now - self.total.began) / max(1, self.total.updates)
        return pace * (self.horizon.steps * self.horizon.budget_fraction - self.progress.step)

    def _evaluation_due(self) -> bool:
        progress, settings = self.progress, self.settings
        if settings.eval_interval:
            return progress.step % settings.eval_interval == 0
        # wall clock: not more than a sixteenth of the time, and none just before the end
        wait = max(10.0, 16 * self.evaluation_seconds)
        ending = self.horizon.seconds - self.horizon.eval_reserve - self.now < wait / 2
        return self.now - progress.evaluated >= wait and not ending

    def _look(self, last: bool = False) -> bool:
        """Evaluates; False when the run should end because nothing improves any more."""
        began, progress = self._read(), self.progress
        self.hooks.baseline()
        ready = self._read()
        with keep_random_state(self.updater.runtime.device):
            score = self.hooks.evaluate(lambda: bool(self.stop))
        if score is None:
            return True  # interrupted: the loop sees the signal itself
        self.score = score
        progress.seconds = progress.evaluated = self._read()
        progress.looked = progress.step
        self.evaluation_seconds = progress.seconds - ready
        # what the end of a wall-clock budget must pay for: one evaluation and the last save
        self.horizon.eval_reserve = 1.5 * self.evaluation_seconds + 1.0
        least = math.inf if progress.best_rank is None else progress.best_rank
        better = score.selection_metric < least  # never a loss that is not a number
        self.log.event(
            "evaluation",
            step=progress.step,
            tokens=progress.tokens,
            seconds=round(progress.seconds, 3),
            loss=score.loss,
            accuracy=score.accuracy,
            bits_per_byte=score.bits_per_byte,
            best=better,
            metrics=score.metrics or None,
        )
        if better:
            progress.best_rank, progress.best_step, progress.stale = (
                score.selection_metric,
                progress.step,
                0,
            )
            self.hooks.better(progress, score)
            self._save()
        else:
            progress.stale += 1
        spent = self._read() - began  # evaluation is not training time
        self.window.began += spent
        self.total.began += spent
        return last or not self._stalled()

    def _stalled(self) -> bool:
        """Whether to end now. A flat schedule is first led to its decay, which helps most."""
        progress, patience = self.progress, self.settings.patience
        if not patience or progress.stale < patience:
            return False
        share = self._share()
        what = "accuracy" if self.score and self.score.by_accuracy else "loss"
        if self.optim.lr_schedule != "wsd":
            self._note(f"no better validation {what} in {patience} evaluations: stopping")
            return True
        if share < 1 - self.optim.decay_fraction:
            self.horizon.start_early_decay(share, self.optim.decay_fraction)
            progress.shortened, progress.stale = self.horizon.budget_fraction, 0
            self._note(
                f"no better validation {what} in {patience} evaluations: "
                "the learning rate falls from here, and the run ends early"
            )
        return False

    def _skipped(self, update: StepMetrics) -> None:
        """An update with a loss or gradient that is no number: after a few, go back."""
        progress = self.progress
        progress.bad += 1
        what = "gradient" if math.isfinite(update.loss) else "loss"
        self._note(
            f"step {progress.step}: the {what} is not a finite number; update skipped "
            f"({progress.bad} in a row)"
        )
        if progress.bad < self.settings.max_nonfinite_steps:
            return
        if progress.rollbacks >= ROLLBACKS:
            raise ScrivenError(
                f"step {progress.step}, windows {progress.samples - self.batch_rows} to "
                f"{progress.samples - 1}: the loss stays not a number after {ROLLBACKS} returns to "
                "a good state; lower --optim.lr and --optim.muon_lr"
            )
        restored = self.hooks.restore()
        if restored is None:
            raise ScrivenError("the loss is not a number and there is no good state to go back to")
        rollbacks, samples, step = progress.rollbacks + 1, progress.samples, progress.step
        self.progress, self.score = restored, None
        restored.rollbacks, restored.samples, restored.bad = rollbacks, samples, 0
        restored.caution = progress.caution / 2
        self.log.event(
            "note",
            step=restored.step,
            seconds=round(self.now, 3),
            text=f"back from step {step} to step {restored.step}, at half the learning rate",
        )
        self.log.say(
            f"back from step {step} to the good state of step {restored.step}, at half "
            "the learning rate and with the next part of the text"
        )

    def _sample_if_due(self) -> None:
        every = self.settings.sample_seconds
        if not every or self.now - self.sampled < every:
            return
        began = self.now
        with keep_random_state(self.updater.runtime.device):
            text = self.hooks.sample()
        self.sampled = self._read()
        self.window.began += self.sampled - began
        self.total.began += self.sampled - began
        progress = self.progress
        self.log.event(
            "sample", step=progress.step, seconds=round(self.sampled, 3), prompt="", text=text
        )
        self.log.say(f"--- the model writes (step {progress.step}) ---\n{text}\n---")

    def _save_if_due(self) -> None:
        settings, progress = self.settings, self.progress
        if settings.save_interval:
            due = progress.step % settings.save_interval == 0
        else:
            due = self.now - self.saved >= settings.save_seconds
        if due and progress.bad == 0:  # a state that may be bad is never the last healthy one
            self._save()

    def _save(self) -> None:
        self.progress.seconds = self._read()
        self.hooks.save(self.progress)
        self.saved = self._read()

    def _note(self, text: str) -> None:
        self.log.event("note", step=self.progress.step, seconds=round(self.now, 3), text=text)
        self.log.say(text)
