"""Tables as training data: which task a table is for, its rows checked and split, and as token ids.

Everything a user can get wrong in a table is refused here, before anything is written.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..data.batch import IGNORE_INDEX, Batch
from ..data.sampler import length_bucketed_rows
from ..data.table import Table, builtin, fingerprint
from ..errors import InputError, SettingError
from ..evaluate.loss import Score
from ..evaluate.table import (
    baseline_scores,
    confusion_matrix,
    describe_baselines,
    main_metric,
    score_rows,
)
from ..generate.engine import Engine
from ..generate.predict import Predictor
from ..runtime import Runtime
from ..settings import DataSettings
from ..tasks.shared.classification import label_index
from ..tasks.shared.columns import (
    BadValue,
    Row,
    match_columns,
    missing_columns,
    parse_columns,
    read_row,
)
from ..tasks.shared.supervised import Example, SupervisedTask, length_bucketed_batches
from ..tokenizers import Tokenizer
from .datasets import TrainDataset

SAMPLE_ROWS = 4
"""Rows of a table in a sample."""
GENERATED_ROWS = 300
"""Validation rows that are answered at the end of a run if answers are generated, which takes long;
`scriven evaluate` answers all."""


@dataclass
class TableDataset(TrainDataset):
    """Rows of a table in random order, each once per epoch, in batches of like lengths."""

    tokenizer: Tokenizer
    task_name: str
    task_class: type[SupervisedTask]
    train_rows: Sequence[Row]
    """Rows with the columns of the task."""
    validation_rows: Sequence[Row]
    train: Sequence[Example]
    """The same rows as token ids."""
    validation: Sequence[Example]
    labels: dict[str, Any]
    """Label names and the like, as the task finds them in the training rows."""
    source_info: dict[str, Any]
    """Fingerprint and sources of the table."""
    task: SupervisedTask = field(init=False)

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
        if not self.task_class.is_generative:
            return 0
        targets = (ids for example in self.validation for ids in example.targets or ())
        bytes_of = self.tokenizer.bytes_of
        return sum(len(bytes_of[id]) for ids in targets for id in ids if id != IGNORE_INDEX)

    def warnings(self) -> list[str]:
        # `cut` is the number of tokens that an example lost to the context length
        examples = [*self.train, *self.validation]
        truncated = [example.cut for example in examples if example.cut]
        if not truncated:
            return []
        return [
            f"{len(truncated):,} of {len(examples):,} rows are longer than the context of "
            f"{self.task.backbone.config.context_length} tokens and lose {sum(truncated):,} tokens"
        ]

    @property
    def scored_rows(self) -> Sequence[Row]:
        """The validation rows on which the model and its baselines are scored."""
        rows = self.validation_rows
        return rows[:GENERATED_ROWS] if self.task_class.is_generative else rows

    def baseline(self) -> tuple[dict[str, Any], str]:
        scores = baseline_scores(
            self.task_name, self.task_class, self.train_rows, self.scored_rows, self.labels
        )
        return scores, describe_baselines(scores, main_metric(self.task_class, self.task_name))

    def sample(self, engine: Engine, runtime: Runtime) -> str:
        rows = list(self.validation_rows[:SAMPLE_ROWS])
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


@dataclass(frozen=True)
class TableData:
    """The rows of a table, read, checked and split."""

    name: str
    """Name of the task."""
    task: type[SupervisedTask]
    columns: dict[str, str]
    """The task's columns -> the table's."""
    train: list[Row]
    validation: list[Row]
    fingerprint: str
    notes: list[str]


def table_tasks() -> dict[str, type[SupervisedTask]]:
    """Every task that reads tables, by name."""
    modules = {
        name: registry.module("scriven.tasks", name).Task
        for name in registry.names("scriven.tasks")
    }
    return {name: task for name, task in modules.items() if issubclass(task, SupervisedTask)}


def infer_task(
    task_name: str | None, columns: Sequence[str], column_names: str
) -> tuple[str, dict[str, str]]:
    """The task, and the column of the table for each column of the task.

    Args:
        task_name: as set by the user; inferred from the columns if None.
        column_names: as set by the user, such as text=review,label=stars.

    Raises:
        InputError: no task, or several, fit the columns, or one is missing.
        SettingError: an unknown task.
    """
    known = table_tasks()
    # 1. the user has named the task
    if task_name is not None:
        task = known.get(task_name)
        if task is None and task_name not in registry.names("scriven.tasks"):
            raise SettingError(f"--task {task_name}: known are {', '.join(known)}")
        if task is None:
            raise SettingError(
                f"--task {task_name} reads texts, not tables: use {', '.join(known)}"
            )
        given = parse_columns(column_names, task.COLUMNS)
        mapping = match_columns(task.COLUMNS, columns, given)
        if mapping is None:
            raise InputError(missing_columns(task_name, task.COLUMNS, columns, given))
        return task_name, mapping
    if column_names:
        raise SettingError(f"--columns {column_names}: name the task as well, with --task")
    # 2. tasks whose columns the table has, by their most usual names
    fitting = {
        name: mapping
        for name, task in known.items()
        if (mapping := match_columns(task.COLUMNS, columns, named=False)) is not None
    }
    # 3. of two tasks that fit, the one that uses more columns is meant
    best = {
        name: mapping
        for name, mapping in fitting.items()
        if not any(set(mapping.values()) < set(other.values()) for other in fitting.values())
    }
    if len(best) == 1:
        return next(iter(best.items()))
    # 4. none, or more than one
    listed = ", ".join(columns[:30])
    if best:
        raise InputError(
            f"the columns {listed} fit the tasks {' and '.join(best)}: choose one with --task"
        )
    raise InputError(
        f"no task is known by the columns {listed}: name it with --task ({', '.join(known)}), and "
        "its columns with --columns"
    )


def load_table(
    sources: Sequence[str],
    data: DataSettings,
    *,
    task: str | None,
    columns: str,
    validation: str | None,
    seed: int,
) -> TableData:
    """Reads a table, checks every row, and splits it.

    The validation part is the file `validation`, the built-in table's own, or rows drawn by the
    seed; equal rows are always in the same part.

    Raises:
        InputError: names the row and what is wrong with it.
    """
    notes: list[str] = []
    # 1. all rows, or the training part
    with Table(sources, data) as table:
        name, mapping = infer_task(task, table.columns, columns)
        task_class = table_tasks()[name]
        rows = read_rows(table, task_class, mapping, data, notes)
        if not rows:
            raise InputError(f"no row of {table.name} can be used: {notes[-1]}")
    # 2. the validation part
    if validation is None and len(sources) == 1 and builtin(sources[0]) is not None:
        with Table(sources, data, "validation") as table:
            held_out = read_rows(table, task_class, mapping, data, notes)
    elif validation is not None:
        with Table([validation], data) as table:
            its_mapping = match_columns(task_class.COLUMNS, table.columns, mapping)
            if its_mapping is None:
                raise InputError(missing_columns(name, task_class.COLUMNS, table.columns, mapping))
            known_label = _label_check(task_class, rows)
            held_out = read_rows(table, task_class, its_mapping, data, notes, check=known_label)
    else:
        rows, held_out = split_rows(task_class, rows, data.val_fraction, seed)
        if task_class.ANSWER_TYPE == "labels":
            task_class.label_metadata([*rows, *held_out])  # refuses what is no column of labels
            rows, held_out = keep_rare_labels(task_class, rows, held_out, notes)
    # 3. is it enough, and are the parts disjoint?
    if not rows or not held_out:
        raise InputError(
            f"{len(rows)} training and {len(held_out)} validation rows are too few: give more "
            "different rows, or a file with --validation"
        )
    if both := count_shared(task_class, rows, held_out):
        notes.append(
            f"{both:,} of {len(held_out):,} validation rows are training rows too: scores on them "
            "tell nothing"
        )
    digest = hashlib.sha256((fingerprint(rows) + fingerprint(held_out)).encode()).hexdigest()
    return TableData(name, task_class, mapping, rows, held_out, digest, notes)


def read_rows(
    table: Table,
    task: type[SupervisedTask],
    mapping: Mapping[str, str],
    data: DataSettings,
    notes: list[str],
    check: Callable[[Row], object] | None = None,
) -> list[Row]:
    """The rows with the columns of the task; skipped ones are counted in `notes`.

    Args:
        mapping: the task's columns -> the table's.
        check: called with each row; raises BadValue if it cannot be used.
    """
    rows, skipped, first = [], 0, ""
    for table_row in table:
        reason = table_row.skipped
        if not reason:
            try:
                row = read_row(task.COLUMNS, mapping, table_row.values)
                task.check_answer(row)
                if check is not None:
                    check(row)
                rows.append(row)
                continue
            except BadValue as error:
                reason = table_row.bad(str(error), data).skipped
        skipped, first = skipped + 1, first or reason
    if skipped:
        notes.append(f"{skipped:,} rows were skipped, first {first}")
    return rows


def split_rows(
    task: type[SupervisedTask], rows: list[Row], val_fraction: float, seed: int
) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows. The part of a row depends on its question and the seed alone, so
    the same question is never in both."""
    if not 0 < val_fraction < 1:
        raise SettingError(f"--data.val_fraction={val_fraction}: between 0 and 1, as 0.1")
    # 1. rows with the same question stay together
    keys = [fingerprint([task.without_answer(row)]) for row in rows]
    if len(set(keys)) < 2:  # one question with many answers
        keys = [fingerprint([row]) for row in rows]
    # 2. questions in an order that the seed decides, until the fraction is reached
    counts = Counter(keys)
    order = sorted(counts, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).hexdigest())
    target, held_out, size = val_fraction * len(rows), set[str](), 0
    for key in order[:-1]:  # the last one is left to train on
        if size + counts[key] / 2 <= target:
            held_out.add(key)
            size += counts[key]
    # 3. a table of few questions holds out the rarest one
    if not held_out and len(order) > 1:
        held_out.add(min(order, key=lambda key: counts[key]))
    parts: tuple[list[Row], list[Row]] = ([], [])
    for key, row in zip(keys, rows, strict=True):
        parts[key in held_out].append(row)
    return parts


def keep_rare_labels(
    task: type[SupervisedTask], rows: list[Row], held_out: list[Row], notes: list[str]
) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows, with rows moved so that every label is in the training part: one
    that is held out altogether cannot be learned."""
    labels = {task.gold_answer(row) for row in rows}
    rare = [row for row in held_out if task.gold_answer(row) not in labels]
    if rare:
        notes.append(f"{len(rare):,} rows with labels of no other row are not held out")
    return [*rows, *rare], [row for row in held_out if task.gold_answer(row) in labels]


def count_shared(task: type[SupervisedTask], rows: Sequence[Row], others: Sequence[Row]) -> int:
    """How many of the other rows have the question of one of the rows."""
    questions = {fingerprint([task.without_answer(row)]) for row in rows}
    return sum(fingerprint([task.without_answer(row)]) in questions for row in others)


def _label_check(task: type[SupervisedTask], rows: list[Row]) -> Callable[[Row], object] | None:
    """A check that refuses rows with a label that none of these rows has."""
    if task.ANSWER_TYPE != "labels":
        return None
    labels = task.label_metadata(rows)["labels"]
    return lambda row: label_index(task.gold_answer(row), labels)
