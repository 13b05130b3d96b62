"""The rows of a table as what a fine-tuning is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..data.batch import IGNORE_INDEX
from ..distributed import BatchShard
from ..evaluate.loss import Score
from ..evaluate.table import (
    baseline_scores,
    confusion_matrix,
    describe_baselines,
    main_metric,
    score_rows,
)
from ..generate.predict import Predictor
from ..tasks.base import BaseTask
from ..tasks.shared.columns import Row
from ..tasks.shared.supervised import Example, SupervisedTask
from ..tokenizers import Tokenizer
from .feed import Drawn, Feed

if TYPE_CHECKING:
    from .trainer import Trainer

SHOWN = 4
"""Rows of a sample."""
WRITTEN = 300
"""Rows of the validation part that are answered in full at the end of a run, where writing an
answer takes long; `scriven evaluate` answers all."""


@dataclass(frozen=True)
class Rows:
    """A table: its rows with the task's columns, and in token ids."""

    tokenizer: Tokenizer
    name: str
    """Of the task."""
    task: type[SupervisedTask]
    train: Sequence[Row]
    validation: Sequence[Row]
    train_examples: Sequence[Example]
    validation_examples: Sequence[Example]
    about: dict[str, Any]
    """Label names and the like, as the task surveyed them."""
    data: dict[str, Any]
    """What is written of the data into scriven.json."""
    notes: list[str] = field(default_factory=list)

    @property
    def opening(self) -> int:
        return self.tokenizer.eos

    @property
    def size(self) -> str:
        return f"{len(self.train):,} + {len(self.validation):,} rows"

    @property
    def tokens(self) -> tuple[int, int]:
        """Of the training and of the validation part."""
        parts = (self.train_examples, self.validation_examples)
        first, second = (sum(example.length for example in part) for part in parts)
        return first, second

    def feed(self, task: BaseTask, seed: int, share: BatchShard, device: torch.device) -> Feed:
        assert isinstance(task, SupervisedTask)
        return Drawn(task, self.train_examples, self.validation_examples, seed, share, device)

    def measured(self, task: BaseTask) -> int:
        """UTF-8 bytes of the answers' tokens that the loss counts, of all turns and as they were
        cut."""
        if not task.is_generative:
            return 0
        told = (ids for example in self.validation_examples for ids in example.targets or ())
        spelled = self.tokenizer.bytes_of
        return sum(len(spelled[number]) for ids in told for number in ids if number != IGNORE_INDEX)

    def warnings(self, task: BaseTask) -> list[str]:
        every = [*self.train_examples, *self.validation_examples]
        cut = [example for example in every if example.cut]
        if not cut:
            return []
        lost = sum(example.cut for example in cut)
        return [
            f"{len(cut):,} of {len(every):,} rows are longer than the context of "
            f"{task.backbone.config.context_length} tokens and lose {lost:,} tokens"
        ]

    @property
    def answered(self) -> Sequence[Row]:
        """The rows that the model, and what it stands beside, are scored on."""
        return self.validation[:WRITTEN] if self.task.is_generative else self.validation

    def baseline(self) -> tuple[dict[str, Any], str]:
        found = baseline_scores(self.name, self.task, self.train, self.answered, self.about)
        return found, describe_baselines(found, main_metric(self.task, self.name))

    def sample(self, run: "Trainer") -> str:
        predictor = Predictor(run.task, self.tokenizer, run.engine, run.runtime)
        rows = list(self.validation[:SHOWN])
        answers = predictor.answer(rows)
        return "\n\n".join(
            f"{self.task.format_row(row)}\n-> {answer.text}"
            for row, answer in zip(rows, answers, strict=True)
        )

    def results(self, run: "Trainer", score: Score) -> dict[str, Any]:
        rows = self.answered
        predictor = Predictor(run.task, self.tokenizer, run.engine, run.runtime)
        answers = predictor.answer(rows)
        return {
            "task": self.name,
            "val_bits_per_byte": score.bits_per_byte if self.measured(run.task) else None,
            "val_rows": len(rows),
            "val_scores": score_rows(self.task, rows, answers, self.about),
            "main_score": main_metric(self.task, self.name),
            "confusion": confusion_matrix(self.task, rows, answers, self.about),
            "baseline": run.record["baseline"],
        }
