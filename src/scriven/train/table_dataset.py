"""The rows of a table as training data (`load_table.py` reads them)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..data.batch import IGNORE_INDEX, Batch
from ..data.sampler import length_bucketed_rows
from ..evaluate.loss import Score
from ..evaluate.table import (
    baseline_scores,
    confusion_matrix,
    describe_baselines,
    main_metric,
    score_rows,
)
from ..format import plural
from ..generate.engine import Engine
from ..generate.predict import Predictor
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.columns import Row
from ..tasks.shared.supervised import Example, SupervisedTask, length_bucketed_batches
from ..tokenizers import Tokenizer
from .autoconfig import TrainPlan
from .datasets import TrainDataset

SAMPLE_ROWS = 4  # rows of a table in a sample
GENERATED_ROWS = 300
"""Validation rows that are answered at the end of a run if answers are generated, which takes long;
`scriven evaluate` answers all."""


@dataclass
class TableDataset(TrainDataset):
    """Rows of a table in random order, each once per epoch, in batches of like lengths."""

    tokenizer: Tokenizer
    task_name: str
    task_class: type[SupervisedTask]
    train_rows: Sequence[Row]  # rows with the columns of the task
    validation_rows: Sequence[Row]
    train: Sequence[Example]  # the same rows as token ids
    validation: Sequence[Example]
    labels: dict[str, Any]  # label names and the like, as the task finds them in the training rows
    source_info: dict[str, Any]  # fingerprint and sources of the table
    task: SupervisedTask = field(init=False)
    final_passes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self.lengths = np.array([example.max_len for example in self.train], dtype=np.int64)

    @property
    def bos(self) -> int:
        return self.tokenizer.eos

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of the training and of the validation part."""
        train, validation = (
            sum(example.length for example in part) for part in (self.train, self.validation)
        )
        return train, validation

    @property
    def info(self) -> dict[str, Any]:
        train_tokens, validation_tokens = self.tokens
        return {
            **self.source_info,
            "rows": len(self.train),
            "validation_rows": len(self.validation),
            "train_tokens": train_tokens,
            "validation_tokens": validation_tokens,
            "bos": self.bos,
        }

    def batch(self, sample: int) -> Batch:
        # rows of similar length for the whole batch, of which this process collates its own
        numbers = length_bucketed_rows(sample, self.batch_size, self.lengths, self.seed)  # (B,)
        examples = [self.train[number] for number in numbers[self.rows]]
        return self.task.collate(examples, self.device)

    def eval_batches(self) -> Iterator[Batch]:
        for numbers in length_bucketed_batches(self.validation):
            yield self.task.collate([self.validation[number] for number in numbers], self.device)

    def eval_bytes(self) -> int:
        """Bytes of the target tokens that the loss counts, over all turns and after truncation."""
        if not self.task_class.writes_answers():
            return 0
        targets = (ids for example in self.validation for ids in example.targets or ())
        bytes_of = self.tokenizer.bytes_of
        return sum(len(bytes_of[id]) for ids in targets for id in ids if id != IGNORE_INDEX)

    def setup(
        self, task: BaseTask, seed: int, batch_size: int, rows: slice, device: torch.device
    ) -> None:
        super().setup(task, seed, batch_size, rows, device)
        # `cut` is the number of tokens that an example lost to the context length
        examples = [*self.train, *self.validation]
        truncated = [example.cut for example in examples if example.cut]
        if truncated:
            verb = "is" if len(truncated) == 1 else "are"
            context_length = task.backbone.config.context_length
            self.warning = (
                f"{len(truncated):,} of {plural(len(examples), 'row')} {verb} longer than the "
                f"context of {context_length} tokens and {'loses' if verb == 'is' else 'lose'} "
                f"{plural(sum(truncated), 'token')}"
            )

    def fit_head(self, plan: TrainPlan, runtime: Runtime) -> str | None:
        """Starts a head of labels or scores as a linear probe, where one process trains."""
        task, wanted = self.task, plan.settings.finetune.linear_probe
        if wanted is None:
            wanted = plan.settings.finetune.weights != "full"
        is_alone = self.rows.stop - self.rows.start == self.batch_size
        if not wanted or not is_alone or not isinstance(task, SequenceClassification):
            return None
        from .linear_probe import can_be_probed, fit_head, rows_to_read, seconds_to_read

        if not can_be_probed(task):
            return None
        began = time.monotonic()
        rows = fit_head(
            task, self.train, runtime,
            rows=rows_to_read(plan, len(self.train)), seconds=seconds_to_read(plan.budget),
        )  # fmt: skip
        seconds = time.monotonic() - began
        if not rows:
            return None
        return f"the head starts as a linear probe of {plural(rows, 'row')} ({seconds:.0f} s)"

    @property
    def scored_rows(self) -> Sequence[Row]:
        """The validation rows on which the model and its baselines are scored."""
        rows = self.validation_rows
        return rows[:GENERATED_ROWS] if self.task_class.writes_answers() else rows

    def baseline(self) -> tuple[dict[str, Any], str]:
        scores = baseline_scores(
            self.task_name, self.task_class, self.train_rows, self.scored_rows, self.labels
        )
        return scores, describe_baselines(scores, main_metric(self.task_class, self.task_name))

    def sample(self, engine: Engine, runtime: Runtime) -> str:
        rows = [self.task_class.without_answer(row) for row in self.validation_rows[:SAMPLE_ROWS]]
        answers = Predictor(engine.task, self.tokenizer, engine, runtime).predict(rows)
        return "\n\n".join(
            f"{self.task_class.format_row(row)}\n-> {answer.text}"
            for row, answer in zip(rows, answers, strict=True)
        )

    def results(
        self, engine: Engine, runtime: Runtime, score: Score, metadata: dict[str, Any], folder: Path
    ) -> dict[str, Any]:
        rows = self.scored_rows
        answers = Predictor(engine.task, self.tokenizer, engine, runtime).predict(rows)
        return {
            "task": self.task_name,
            "val_bits_per_byte": score.bits_per_byte if self.eval_bytes() else None,
            "val_rows": len(rows),
            "val_scores": score_rows(self.task_class, rows, answers, self.labels),
            "main_score": main_metric(self.task_class, self.task_name),
            "confusion": confusion_matrix(self.task_class, rows, answers, self.labels),
            "baseline": metadata["baseline"],
        }
