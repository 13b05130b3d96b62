"""The training loop for a run that goes on from a model: what that was worth is measured.

The score of a large model over a long text takes minutes on a CPU. So while training only the
beginning of the held-out text is evaluated, as much as a tenth of the time pays for; the scores
before and after are those of all of it, or of as much as a seventh of the time pays for. A base
model beside adapters is still there later, so that its score does not delay the first step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..evaluate.loss import Score, evaluate_loss
from ..nn.lora import lora_adapters
from .replay import ReplayDataset
from .train_state import TrainState
from .trainer import Trainer

EVALUATIONS, SHARE = 10, 0.05
"""Evaluations that a wall-clock budget should have room for, and the fraction of it that they take
together; the scores before and after come on top."""
LAST_SHARE = 0.15
"""The largest fraction of a wall-clock budget for the scores before and after together."""
SPEEDUP = 2
"""An evaluation has no backward pass, which costs as much as the forward pass where the weights
have no gradient."""
MIN_WINDOWS = 4
"""Windows that are evaluated, at least."""
MIN_OLD_TOKENS = 1 << 14
"""Tokens of the older text that are scored, at least."""
PROMPT_TOKENS = 16
"""Tokens of the held-out text that a sample goes on from: a model that knows many kinds of text
would begin with any of them."""


class AdaptTrainer(Trainer):
    """As `Trainer`; the base model is the best one until a better one comes."""

    def restore_or_init(self) -> TrainState:
        """Scores a base model whose own weights are trained before the first step."""
        state = super().restore_or_init()
        self.dataset.prompt_tokens = PROMPT_TOKENS
        self.has_base = self.checkpointer.adapters_only and self.plan.task == "language"
        if not self.has_base and "before" not in self.run.metadata["base"]:
            self.score_base()
        before = self.run.metadata["base"].get("before", {})
        self.limit_evaluations(before.get("eval_tokens"))
        if state.best_score is None and state.step == 0 and not self.has_base:
            self.evaluate_and_keep_best(state)
        self.task.train()
        return state

    def evaluation_due(self, state: TrainState) -> bool:
        """As `Trainer`; how long the first evaluation takes follows from the speed of training."""
        if "before" not in self.run.metadata["base"] and state.step and self.plan.steps is None:
            speed = SPEEDUP * self.total.tokens_per_second(self.now)
            part, last = self.affordable_tokens(speed)
            self.eval_seconds = 2 * part / speed
            self.horizon.eval_reserve = self.eval_seconds
            if last > part:
                self.horizon.eval_reserve += self.seconds_at_the_end(last, speed)
        return super().evaluation_due(state)

    def evaluate_and_keep_best(self, state: TrainState, last: bool = False) -> None:
        """The base model comes first; keeps time for the scores that come at the end alone."""
        base = self.run.metadata["base"]
        if "before" not in base:
            self.score_base()
        if self.has_base and state.best_score is None and not self.run.branch:
            state.best_score = base["before"]["selection_value"]
        super().evaluate_and_keep_best(state, last)
        self.horizon.eval_reserve += base["before"]["seconds"]

    def score_base(self) -> None:
        """Scores the base model, and decides how much of the held-out text is evaluated: while
        training (`eval_tokens`), and at the end (`last_tokens`); None: all of it."""
        began, total, few = self.read_clock(), self.total_tokens, None
        if self.has_base:  # its score at the end comes later
            few = self.affordable_tokens(SPEEDUP * self.total.tokens_per_second(began))[0]
            self.limit_evaluations(few if few < total else None)
        with self.without_adapters():
            score = self.evaluate()
            assert score is not None
            speed = score.tokens / max(1e-9, self.read_clock() - began)
            part, last = self.affordable_tokens(speed)
            part, last = (part, total) if few is None else (few, max(few, last))
            is_final = few is None or part == last
            old = self.score_old_text(last if last < total else None) if is_final else None
        text = f"the model as it came: {score.bits_per_byte:.3f} bits per byte on the held-out text"
        text += f"'s first {few:,} tokens" if few is not None and few < total else ""
        text += f", {old.bits_per_byte:.3f} on its own" if old is not None else ""
        before: dict[str, Any] = {"selection_value": score.selection_value}
        before |= self.scores(score, old) if is_final else {}
        if part < total:
            text += f"; while training, {part:,} of {total:,} tokens are evaluated"
        if last < total:
            text += f", and {last:,} at the end, which a longer --budget raises"
        self.trackers.on_message(text)
        before["eval_tokens"] = part if part < total else None
        before["last_tokens"] = last if last < total else None
        seconds = self.seconds_at_the_end(last, speed) * (0.5 if is_final else 1.0)
        before["seconds"] = round(seconds, 3)
        self.run.metadata["base"]["before"] = before
        self.checkpointer.write_metadata()
        self.limit_evaluations(before["eval_tokens"])

    @property
    def total_tokens(self) -> int:
        """Tokens of the held-out text."""
        return int(self.run.metadata["data"]["validation_tokens"])

    def affordable_tokens(self, speed: float) -> tuple[int, int]:
        """Tokens of the held-out text that can be evaluated often, and at the end.

        Args:
            speed: tokens evaluated per second.
        """
        total, steps, budget = self.total_tokens, self.plan.steps, self.plan.budget
        if self.plan.task != "language":
            return total, total
        window, last = self.task.sequence_length, float(total)
        if steps is None:
            often = SHARE * budget.amount / EVALUATIONS * speed
            last = LAST_SHARE * budget.amount / (2 * self.texts) * speed
        else:
            # no clock, so that a run can be repeated: a step costs two to three evaluations
            evaluations = max(1, steps // (self.settings.train.eval_interval or steps))
            often = 2 * SHARE * steps * self.batch_size * window / evaluations
        part, most = (
            total if each >= total else max(MIN_WINDOWS, int(each) // window) * window
            for each in (often, last)
        )
        return min(total, part), min(total, max(part, most))

    def seconds_at_the_end(self, tokens: int, speed: float) -> float:
        """Seconds for the last scores of base and model, of this many tokens of each text."""
        return 2 * self.texts * tokens / speed

    @property
    def texts(self) -> int:
        """The new one, and the older one where that is mixed in."""
        return 2 if isinstance(self.dataset, ReplayDataset) else 1

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """The base model, whose adapters are switched off meanwhile."""
        adapters = lora_adapters(self.task).values()
        alphas = [adapter.alpha for adapter in adapters]
        try:
            for adapter in adapters:
                adapter.alpha = 0.0
            yield
        finally:
            for adapter, alpha in zip(adapters, alphas, strict=True):
                adapter.alpha = alpha

    @staticmethod
    def scores(score: Score, old: Score | None) -> dict[str, Any]:
        """What the results say of the base model."""
        return {
            "val_loss": score.loss,
            "val_bits_per_byte": score.bits_per_byte,
            "val_accuracy": score.accuracy,
            "old_bits_per_byte": None if old is None else old.bits_per_byte,
        }

    def limit_evaluations(self, tokens: int | None) -> None:
        """Evaluates the first tokens of the validation part alone; None: all of them."""
        self.dataset.eval_tokens = tokens
        self.eval_bytes = self.dataset.eval_bytes()
        self.best = (-1, None)  # a score of other tokens

    def score_old_text(self, limit: int | None) -> Score | None:
        """The score on the older text; None if there is none.

        Args:
            limit: tokens of it; None: as many as are held out of the new one.
        """
        dataset = self.dataset
        if not isinstance(dataset, ReplayDataset):
            return None
        validation, size = dataset.older.validation, dataset.older.validation_bytes
        limit = limit or max(len(dataset.corpus.validation), MIN_OLD_TOKENS)
        if len(validation) > limit:
            validation = validation.head(limit)
            size = dataset.count_bytes(validation)
        batches = self.task.eval_batches(validation, self.device)
        return evaluate_loss(
            self.task, batches, text_bytes=size, runtime=self.run.runtime, dist=self.dist
        )

    def finish(self, state: TrainState) -> dict[str, Any]:
        """Adds the scores before and after, each of the same part of the held-out text."""
        before = self.run.metadata["base"]["before"]
        if before["eval_tokens"] != before["last_tokens"]:
            self.limit_evaluations(before["last_tokens"])
            self.score = None
        results = super().finish(state)
        if "val_loss" not in before:
            with self.without_adapters():
                score, old = self.evaluate(), self.score_old_text(before["last_tokens"])
            assert score is not None
            before |= self.scores(score, old)
        old = self.score_old_text(before["last_tokens"])
        if not self.dist.is_main_process:
            return results
        results |= {f"base_{name}": before[name] for name in before if name.startswith("val_")}
        if old is not None:
            results["old_bits_per_byte_before"] = before["old_bits_per_byte"]
            results["old_bits_per_byte"] = old.bits_per_byte
        self.checkpointer.write_results(results)
        return results

    def sample(self) -> str:
        """As `Trainer.sample`; frozen weights may be stored in half precision."""
        with self.run.runtime.autocast():
            return super().sample()
