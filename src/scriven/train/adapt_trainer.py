"""The training loop for a run that goes on from a model: what that was worth is measured.

The score of a large model over a long text takes minutes on a CPU. So while training only the
beginning of the held-out text is evaluated, as much as a tenth of the time pays for; the scores
before and after are those of all of it. A base model beside adapters is still there at the end, so
that its score does not delay the first step.
"""

from typing import Any

from ..evaluate.loss import Score, evaluate_loss
from ..nn.lora import lora_adapters
from .replay import ReplayDataset
from .train_state import TrainState
from .trainer import Trainer

EVALUATIONS, SHARE = 10, 0.05
"""Evaluations that a wall-clock budget should have room for, and the fraction of it that they take
together; the scores before and after come on top."""
MIN_WINDOWS = 4
"""Windows that are evaluated, at least."""
MIN_OLD_TOKENS = 1 << 14
"""Tokens of the older text that are scored, at least."""


class AdaptTrainer(Trainer):
    """As `Trainer`; the base model is the best one until a better one comes."""

    def restore_or_init(self) -> TrainState:
        """Scores the base model before the first step."""
        state = super().restore_or_init()
        base = self.run.metadata["base"]
        if "before" not in base:
            base["before"] = self.score_base(state)
            self.checkpointer.write_metadata()
        self.limit_evaluations(state.eval_tokens)
        if state.step == 0:
            self.evaluate_and_keep_best(state)
        self.task.train()
        return state

    def score_base(self, state: TrainState) -> dict[str, Any]:
        """The scores of the base model as it came; decides what is evaluated while training."""
        began, before = self.read_clock(), {}
        # 1. a base beside adapters: only how fast it is, unless the text is short
        total = int(self.run.metadata["data"]["validation_tokens"])
        few = MIN_WINDOWS * self.task.sequence_length
        later = self.checkpointer.adapters_only and self.plan.task == "language" and few < total
        self.limit_evaluations(few if later else None)
        score = self.evaluate()
        assert score is not None
        seconds = (self.read_clock() - began) * (total / few if later else 1)
        state.eval_tokens = self.affordable_tokens(total if later else score.tokens, seconds)
        # 2. the scores
        text = f"the model as it came: {score.bits_per_byte:.3f} bits per byte on the held-out text"
        if later:
            text += f"'s first {few:,} tokens"
            seconds *= 2  # for its score at the end
        else:
            before, old = self.scores(score), self.score_old_text()
            text += f", {old.bits_per_byte:.3f} on its own" if old is not None else ""
            before["old_bits_per_byte"] = None if old is None else old.bits_per_byte
            seconds = self.read_clock() - began
        if state.eval_tokens is not None:
            text += f"; while training, {state.eval_tokens:,} of {total:,} tokens are evaluated"
        self.trackers.on_message(text)
        return {**before, "seconds": round(seconds, 3)}

    @staticmethod
    def scores(score: Score) -> dict[str, Any]:
        """What the results say of the base model."""
        return {
            "val_loss": score.loss,
            "val_bits_per_byte": score.bits_per_byte,
            "val_accuracy": score.accuracy,
        }

    def score_frozen_base(self) -> dict[str, Any]:
        """The scores of a base model beside its adapters, which are switched off meanwhile."""
        adapters = lora_adapters(self.task).values()
        alphas = [adapter.alpha for adapter in adapters]
        try:
            for adapter in adapters:
                adapter.alpha = 0.0
            score, old = self.evaluate(), self.score_old_text()
        finally:
            for adapter, alpha in zip(adapters, alphas, strict=True):
                adapter.alpha = alpha
        assert score is not None
        return {
            **self.scores(score),
            "old_bits_per_byte": None if old is None else old.bits_per_byte,
        }

    def affordable_tokens(self, tokens: int, seconds: float) -> int | None:
        """Tokens of the held-out text that can be evaluated often; None: all of them.

        Args:
            tokens: of all of it. seconds: that its evaluation took.
        """
        if self.plan.task != "language":
            return None
        window, steps, budget = self.task.sequence_length, self.plan.steps, self.plan.budget
        if steps is None:
            share = SHARE * budget.amount / EVALUATIONS / max(1e-9, seconds)
        else:
            # no clock, so that a run can be repeated: a step costs two to three evaluations
            evaluations = max(1, steps // (self.settings.train.eval_interval or steps))
            share = 2 * SHARE * steps * self.batch_size * window / evaluations / tokens
        part = max(MIN_WINDOWS * window, int(share * tokens) // window * window)
        return part if part < tokens else None

    def limit_evaluations(self, tokens: int | None) -> None:
        """Evaluates the first tokens of the validation part alone; None: all of them."""
        self.dataset.eval_tokens = tokens
        self.eval_bytes = self.dataset.eval_bytes()

    def score_old_text(self) -> Score | None:
        """The score on the older text, of which at most as much is read as is held out of the new
        one; None if there is none."""
        dataset = self.dataset
        if not isinstance(dataset, ReplayDataset):
            return None
        validation, size = dataset.older.validation, dataset.older.validation_bytes
        limit = max(len(dataset.corpus.validation), MIN_OLD_TOKENS)
        if len(validation) > limit:
            validation = validation.head(limit)
            size = dataset.count_bytes(validation)
        batches = self.task.eval_batches(validation, self.device)
        return evaluate_loss(
            self.task, batches, text_bytes=size, runtime=self.run.runtime, dist=self.dist
        )

    def evaluate_and_keep_best(self, state: TrainState, last: bool = False) -> None:
        """Keeps time for the scores that come at the end alone."""
        super().evaluate_and_keep_best(state, last)
        self.horizon.eval_reserve += self.run.metadata["base"]["before"]["seconds"]

    def finish(self, state: TrainState) -> dict[str, Any]:
        """Adds the scores before and after, each of the whole held-out text."""
        if state.eval_tokens is not None:
            self.limit_evaluations(None)
            self.score = None
        results = super().finish(state)
        if "val_loss" not in self.run.metadata["base"]["before"]:
            self.run.metadata["base"]["before"] |= self.score_frozen_base()
        old, before = self.score_old_text(), self.run.metadata["base"]["before"]
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
