"""The training loop, the only one for every architecture and task: `Trainer.fit`, top to bottom."""

import math
import time
from dataclasses import replace
from functools import cached_property
from typing import Any

from ..data.batch import Batch, split_windows
from ..errors import ScrivenError
from ..evaluate.loss import Score, evaluate_loss
from ..generate.engine import Engine
from ..runtime import preserve_rng_state
from .build_model import build_model
from .checkpointer import Checkpointer
from .datasets import RecurrentTextDataset
from .native_step import use_native_step
from .recurrent_state import TBPTTState
from .schedule import flat_until, lr_multiplier, sequence_splits
from .spikes import follow_loss, spike_limit
from .stopping import FinishRequest, Interrupted, StopSignal, stop_early
from .trackers.base import StepReport, Trackers
from .train_state import Run, TrainState
from .train_step import RunningAverages, StepMetrics, TrainStep

MAX_ROLLBACKS = 3  # returns to the last good checkpoint before a run gives up


class Trainer:
    """One run in one process: `fit` trains it to its end, or from its last checkpoint on.

    Args:
        stop: knows whether a signal asked the run to end.
        began: time.monotonic() when the command started; wall-clock budgets count from there.
    """

    def __init__(self, run: Run, trackers: Trackers, stop: StopSignal, began: float) -> None:
        self.run, self.trackers, self.stop, self.began = run, trackers, stop, began
        self.plan, self.settings, self.dist = run.plan, run.plan.settings, run.dist
        self.optim, self.dataset, self.device = self.settings.optim, run.dataset, run.runtime.device
        self.parallel, self.optimizers = build_model(run, warn=trackers.on_message)
        self.task, train = self.parallel.task, self.settings.train
        self.batch_size, self.micro_batch_size = train.batch_size or 1, train.micro_batch_size or 1
        self.context_lengths = run.plan.model.context_length, train.initial_context_length
        rows = self.dist.batch_shard(self.batch_size)
        self.recurrent_state: TBPTTState | None = None
        if isinstance(self.dataset, RecurrentTextDataset):
            self.recurrent_state = TBPTTState(self.task.backbone, self.batch_size, rows)
        clip, runtime, recurrent = self.settings.optim.grad_clip, run.runtime, self.recurrent_state
        self.train_step = TrainStep(self.parallel, self.optimizers, runtime, clip, recurrent)
        self.dataset.setup(self.task, run.plan.seed, self.batch_size, rows, self.device)
        self.checkpointer = Checkpointer(run, trackers, self.parallel, self.optimizers, recurrent)
        self.request = FinishRequest(run.folder, run.dist)
        self.score: Score | None = None  # of the last evaluation
        self.best: tuple[int, Score | None] = (-1, None)  # the best step, its score at full length
        self.eval_bytes: int | None = None  # UTF-8 bytes of the validation targets
        self.eval_seconds = 0.0

    @cached_property
    def engine(self) -> Engine:
        """Generates text with the gathered weights."""
        task, tokenizer = self.checkpointer.full_task, self.dataset.tokenizer
        return Engine(task, tokenizer, self.run.runtime, self.dataset.bos)

    def fit(self) -> dict[str, Any]:
        """Trains until the budget is spent, early stopping ends the run, or a signal arrives; the
        last state is saved in every case. Returns the results, as in scriven.json; empty in all
        processes but rank 0.

        Raises:
            Interrupted: a signal arrived; the state is saved.
            ScrivenError: the last state could not be saved, or the loss stays NaN or infinite.
        """
        state = self.restore_or_init()
        self.stop.is_deferred = True  # from here on a signal ends the run after a whole step
        try:
            # an evaluation that a signal cut short is made up for
            if state.step != state.last_eval_step and self.evaluation_due(state):
                self.evaluate_and_keep_best(state)
            while not self.done(state):
                progress = self.horizon.progress(state.step, self.now)
                if progress >= self.flat_from and state.flat_step < 0:
                    self.keep_flat_state(state)
                # 1. the next batch is a function of (seed, sample): nothing to save for resuming
                batch = self.next_batch(state)  # (B, T) token ids and targets
                # 2. the progress through the budget decides sequence length and learning rate
                splits = sequence_splits(*self.context_lengths, progress)
                if splits > 1:
                    batch = batch.split_sequences(splits)  # (B * splits, T / splits)
                multiplier = lr_multiplier(self.optim, progress) * state.lr_backoff
                # 3. forward, backward, clip, update; skipped if the loss is NaN or infinite
                limit = spike_limit(state) if self.settings.train.skip_spikes else math.inf
                metrics = self.train_step(batch, self.micro_batch_size * splits, multiplier, limit)
                state.advance(self.batch_size, metrics.num_tokens, self.read_clock())
                state = self.check_finite(state, metrics)
                # 4. everybody who watches: console, metrics.jsonl, TensorBoard, ...
                self.report(state, metrics, progress)
                # 5. evaluate, and keep the best weights; early stopping decides here
                if self.evaluation_due(state):
                    self.evaluate_and_keep_best(state)
                # 6. show what the model generates
                every = self.settings.train.sample_seconds
                if every and self.now - self.last_sample_seconds >= every:
                    self.sample_and_report(state)
                # 7. save a checkpoint
                if self.save_due(state):
                    self.save_checkpoint(state)
            if state.last_eval_step != state.step and not self.stop_requested():
                self.evaluate_and_keep_best(state, last=True)
            stopped = self.stop_requested()
            self.save_checkpoint(state)
        finally:
            self.stop.is_deferred = False
        if self.checkpointer.error:
            raise self.checkpointer.error
        if stopped:
            raise Interrupted(stopped)
        return self.finish(state)

    def restore_or_init(self) -> TrainState:
        """The state of the newest checkpoint, or that of a new run."""
        # 1. what is trained, on what, and where
        self.trackers.on_start(self.run)
        if self.dataset.warning:
            self.trackers.on_message(self.dataset.warning)
        self.trackers.on_message(self.run.describe(self.task, self.parallel.mode))
        # 2. weights, optimizers, random numbers and progress
        state = TrainState() if self.run.is_new else self.resume()
        if state.step == 0 and not self.run.starts_from_seed:
            if note := self.dataset.fit_head(self.plan, self.run.runtime):
                self.trackers.on_message(note)
            self.checkpointer.save(state)
            if self.checkpointer.error:
                raise self.checkpointer.error
        self.began -= state.seconds
        use_native_step(
            self.run, self.parallel, self.optimizers, state, lambda: self.next_batch(state),
            self.trackers.on_message,
        )  # fmt: skip
        # 3. when training ends, and how the learning rate goes there
        self.horizon = self.run.horizon(state, self.read_clock())
        if self.run.is_rewarmed:  # for sequences that are long already
            self.context_lengths = self.plan.model.context_length, None
        elif state.branch:  # at the flat rate, which was warmed up long ago
            self.optim = replace(self.optim, warmup_fraction=0.0)
        flat = flat_until(self.optim)
        self.flat_from = math.inf if flat is None else flat
        # 4. the clocks of what happens every so many seconds
        self.window, self.total = RunningAverages(self.now), RunningAverages(self.now)
        self.last_save_seconds = self.last_sample_seconds = self.now
        if state.step == 0:  # however long preparations took, one step changes little
            state.last_eval_seconds = self.now
        self.task.train()
        return state

    def resume(self) -> TrainState:
        """The state of the newest checkpoint; that before the first step if there is none."""
        self.request.take()  # one that a killed run has not seen is not meant for this one
        state = self.checkpointer.restore() or TrainState()
        if state.branch != self.run.branch:
            state.begin_branch(self.run.branch)
            self.trackers.on_extend(state)
            self.checkpointer.save(state)
        else:
            self.trackers.on_resume(state)
            self.trackers.on_note(state, "resumed", f"going on from step {state.step}")
        return state

    def finish(self, state: TrainState) -> dict[str, Any]:
        """Puts the best weights back, publishes them, and writes the results."""
        score, is_better = self.score, self.run.is_beaten_by(state.best_score)
        if state.best_step != state.step or score is None or not is_better:
            self.checkpointer.load_best(state)
            step, best = self.best
            score = (best if is_better and step == state.best_step else None) or self.evaluate()
        if self.run.branch and not is_better:
            self.trackers.on_note(state, "no better than before: the earlier model stays")
        if state.skipped_steps:
            self.trackers.on_message(state.describe_skips())
        assert score is not None
        sample = self.sample()  # gathers the weights that are published below
        if not self.dist.is_main_process:
            self.dist.barrier()
            return {}
        self.checkpointer.publish(state.best_step, final=True)
        results = {
            "run": str(self.run.folder),
            "measure": self.task.loss_unit,
            "val_loss": score.loss,
            "val_tokens": score.tokens,
            "val_accuracy": score.accuracy,
            "val_metrics": score.metrics,
            **state.summary(),
            "seconds": round(time.monotonic() - self.began, 3),
            "tokens_per_second": round(self.total.tokens_per_second(self.now), 1),
            "parameters": sum(weight.numel() for weight in self.engine.task.parameters()),
            "finished": True,
            "sample": sample,
        }
        self.trackers.on_end(results)
        results |= self.dataset.results(
            self.engine, self.run.runtime, score, self.run.metadata, self.run.folder
        )
        self.checkpointer.write_results(results)
        self.dist.barrier()
        return results

    def done(self, state: TrainState) -> bool:
        """Whether the budget is spent, a signal arrived, or early stopping ended the run."""
        if state.step and (note := self.request.apply(self.horizon, state, self.now, self.optim)):
            self.trackers.on_note(state, note)
        spent = self.horizon.progress(state.step, self.now) >= 1
        return spent or self.stop_requested() > 0 or state.converged

    def read_clock(self) -> float:
        """Seconds of the run by rank 0's clock, so that all processes decide alike."""
        self.now = self.dist.broadcast(time.monotonic() - self.began)
        return self.now

    def stop_requested(self) -> int:
        """The signal that any of the processes received, or 0."""
        return int(self.dist.all_reduce([self.stop.number or 0], "MAX")[0])

    def next_batch(self, state: TrainState) -> Batch:
        """This process's rows of the next batch."""
        batch, recurrent = self.dataset.batch(state.samples), self.recurrent_state
        return batch if recurrent is None else recurrent.follow(state.samples, batch)

    def check_finite(self, state: TrainState, metrics: StepMetrics) -> TrainState:
        """Counts skipped steps; after too many in a row, the state of the last good checkpoint.
        Raises ScrivenError if the loss stays NaN or infinite after several of them."""
        if math.isfinite(metrics.loss + metrics.grad_norm):
            state.nonfinite_steps = 0
            if spike := follow_loss(state, metrics, self.task.selection_metric):
                self.trackers.on_note(state, spike)
            return state
        state.nonfinite_steps = count = state.nonfinite_steps + 1
        state.skipped_steps += 1
        what = "gradient" if math.isfinite(metrics.loss) else "loss"
        text = f"step {state.step}: the {what} is NaN or infinite; step skipped ({count} in a row)"
        self.trackers.on_note(state, text)
        if count < self.settings.train.max_nonfinite_steps:
            return state
        if state.rollbacks >= MAX_ROLLBACKS:
            raise ScrivenError(
                f"step {state.step}, samples {state.samples - self.batch_size} to "
                f"{state.samples - 1}: the loss is still NaN or infinite after {MAX_ROLLBACKS} "
                "rollbacks; lower --optim.lr and --optim.muon_lr"
            )
        return self.roll_back(state)

    def roll_back(self, state: TrainState) -> TrainState:
        """The last good checkpoint, at half the learning rate; the bad samples are left out."""
        restored = self.checkpointer.restore() or self.checkpointer.reinitialize()
        self.score = None
        restored.samples, restored.seconds = state.samples, state.seconds
        restored.rollbacks, restored.skipped_steps = state.rollbacks + 1, state.skipped_steps
        restored.nonfinite_steps, restored.lr_backoff = 0, state.lr_backoff / 2
        text = f"back from step {state.step} to step {restored.step}, at half the learning rate"
        self.trackers.on_note(restored, text, f"{text} and with the next part of the text")
        return restored

    def report(self, state: TrainState, metrics: StepMetrics, progress: float) -> None:
        """Tells the trackers about a step."""
        self.window.add(metrics)
        self.total.add(metrics)
        due = state.step == 1 or self.now - self.window.began >= self.settings.train.log_seconds
        if due or self.trackers.wants_every_step:
            pace = (self.now - self.total.began) / max(1, self.total.steps)
            report = StepReport(
                seconds=self.now,
                step=state.step,
                total_steps=self.horizon.steps,
                seconds_left=self.horizon.seconds_left(state.step, self.now, pace),
                tokens_per_second=self.window.tokens_per_second(self.now),
                train_loss=self.window.loss,
                val_loss=self.score.loss if self.score else None,
                val_step=state.last_eval_step,
                train_accuracy=self.window.accuracy,
                val_accuracy=self.score.accuracy if self.score else None,
                lr=self.optimizers.lr,
                grad_norm=metrics.grad_norm,
                progress=progress,
                step_loss=metrics.loss if metrics.applied else math.nan,
                step_accuracy=metrics.accuracy if metrics.applied else math.nan,
                due=due,
            )
            self.trackers.on_step(state, report)
        if due:
            self.window = RunningAverages(self.now)

    def evaluation_due(self, state: TrainState) -> bool:
        """Whether to evaluate now; a wall-clock run spends at most a sixteenth of its time on it,
        and does not begin just before the end, where it evaluates anyway."""
        if interval := self.settings.train.eval_interval:
            return state.step % interval == 0
        wait = max(10.0, 16 * self.eval_seconds)
        ending = self.horizon.seconds - self.horizon.eval_reserve - self.now < wait / 2
        return self.now - state.last_eval_seconds >= wait and not ending

    def evaluate_and_keep_best(self, state: TrainState, last: bool = False) -> None:
        """Evaluates, saves and publishes the best weights, and stops early unless it is `last`."""
        began = self.read_clock()
        self.fit_baseline()
        evaluating = self.read_clock()
        # 1. the score at the length of training; None if a signal came, which the loop sees itself
        progress = self.horizon.progress(state.step, self.now)
        splits = 1 if last else sequence_splits(*self.context_lengths, progress)
        with preserve_rng_state(self.device):
            score = self.evaluate(interruptible=True, splits=splits)
        if score is None:
            return
        self.score = score
        state.seconds = state.last_eval_seconds = self.read_clock()
        state.last_eval_step = state.step
        self.eval_seconds = state.seconds - evaluating
        # 2. a wall-clock budget has to pay for what comes at the end, and the last save
        self.horizon.eval_reserve = (0.5 + self.dataset.final_passes) * self.eval_seconds + 1.0
        # 3. is it the best? a NaN never is
        best_score = math.inf if state.best_score is None else state.best_score
        is_best = score.selection_value < best_score
        self.trackers.on_eval(state, score, is_best)
        if is_best:
            state.best_score, state.best_step = score.selection_value, state.step
            self.best = state.step, score if splits == 1 else None
            state.evals_without_improvement = 0
            self.checkpointer.gather_weights()
            if self.run.is_beaten_by(state.best_score):
                self.checkpointer.try_to_publish(state.step)
            self.save_checkpoint(state)
        else:
            state.evals_without_improvement += 1
        self._exclude(self.read_clock() - began)
        # 4. early stopping
        if not last and (text := stop_early(state, score, self.horizon, self.now, self.settings)):
            self.trackers.on_note(state, text)

    def evaluate(self, interruptible: bool = False, splits: int = 1) -> Score | None:
        """Score on the whole validation part, rows in `splits`; None if a signal interrupted it."""
        if self.eval_bytes is None:
            self.eval_bytes = self.dataset.eval_bytes()
        pause = (lambda: bool(self.stop_requested())) if interruptible else lambda: False
        return evaluate_loss(
            self.task, split_windows(self.dataset.eval_batches(), splits),
            text_bytes=self.eval_bytes, runtime=self.run.runtime, pause=pause, dist=self.dist,
            metrics=self.run.components.metrics, forward=self.parallel.evaluation_forward,
        )  # fmt: skip

    def fit_baseline(self) -> None:
        """Computes what the scores are compared with, once in the life of a run."""
        if "baseline" in self.run.metadata or not self.dist.is_main_process:
            return
        self.run.metadata["baseline"], sentence = self.dataset.baseline()
        self.checkpointer.write_metadata()
        if not self.task.is_masked_lm:  # n-grams see one side of a masked token only
            self.trackers.on_message(sentence)

    def keep_flat_state(self, state: TrainState) -> None:
        """Saves the last sound state before the learning rate falls: a longer training can go on
        from there."""
        if state.nonfinite_steps == 0:
            state.flat_step = state.step
            self.save_checkpoint(state)

    def save_due(self, state: TrainState) -> bool:
        """Whether to save now; never a state that may be bad, as it would be the last good one."""
        train = self.settings.train
        due = self.now - self.last_save_seconds >= train.save_seconds
        if train.save_interval:
            due = state.step % train.save_interval == 0
        return due and state.nonfinite_steps == 0

    def save_checkpoint(self, state: TrainState) -> None:
        """Saves the state, and starts to wait for the next save."""
        state.seconds = self.read_clock()
        self.checkpointer.save(state)
        self.last_save_seconds = self.read_clock()

    def sample_and_report(self, state: TrainState) -> None:
        """Generates a sample; neither its time nor its random numbers count as training."""
        began = self.now
        with preserve_rng_state(self.device):
            text = self.sample()
        self.last_sample_seconds = state.seconds = self.read_clock()
        self._exclude(self.now - began)
        self.trackers.on_sample(state, text)

    def sample(self) -> str:
        """What the model generates now, with the same seed each time."""
        self.checkpointer.gather_weights()
        if not self.dist.is_main_process:
            return ""
        text = self.dataset.sample(self.engine, self.run.runtime)
        self.task.train()
        return text

    def _exclude(self, seconds: float) -> None:
        """Leaves seconds that were not spent training out of tokens per second."""
        self.window.began += seconds
        self.total.began += seconds
