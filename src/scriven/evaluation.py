"""Evaluates the model of a run: its loss on texts, or the scores of its task on tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import config
from .data.eval_text import encode_eval_text
from .data.pipeline import load_dataset
from .data.shards import TokenFile
from .data.table import Table
from .errors import InputError, ScrivenError, SettingError
from .evaluate.loss import Metric, evaluate_loss, scored_bytes
from .evaluate.table import check_metrics, evaluate_rows
from .generate.predict import Predictor, table_columns
from .import_.base import open_base
from .runs.metadata import check_downloads, has_given_tokenizer
from .runtime import Runtime
from .settings import DataSettings, TokenizerSettings
from .tasks.base import BaseTask
from .tasks.dpo import REFERENCE, Dpo
from .tasks.shared.columns import Row
from .tokenizers import Tokenizer
from .train.finetune import weights_digest
from .train.load_table import load_table, read_examples
from .train.split_table import count_shared, missing_labels


@dataclasses.dataclass(frozen=True)
class TextEvaluator:
    """Evaluates a language model, or another model of texts, token by token.

    Args:
        metadata: of its run.
        metrics: further functions of logits (N, V) and targets (N,), by name.
        memory: earlier positions that a recurrent model attends to, instead of its own number.
        sequence_length: tokens of a window, which is read without the text before it; by default
            as long as the rows the model was trained on, or as it can read.
    """

    task: BaseTask
    tokenizer: Tokenizer
    runtime: Runtime
    metadata: Mapping[str, Any]
    metrics: Mapping[str, Metric] | None = None
    memory: int | None = None
    sequence_length: int | None = None

    def __post_init__(self) -> None:
        length, context = self.sequence_length, self.task.backbone.config.context_length
        if length is not None and not 1 <= length <= context:
            raise SettingError(
                f"--sequence-length={length}: this model reads 1 to {context} tokens"
            )
        if length is not None and self.metadata["task"] == "pairs":
            raise SettingError(
                f"--sequence-length={length}: pairs are evaluated whole: leave it out"
            )
        if self.memory is None:
            return
        if not self.task.backbone.is_recurrent:
            raise SettingError(
                f"--memory={self.memory}: {self.metadata['architecture']} has no memory of "
                "earlier windows: leave it out"
            )
        if self.memory < 0:
            raise SettingError(f"--memory={self.memory}: a whole number from 0 upwards")
        if self.memory and self.task.backbone.max_position is None:
            raise SettingError(
                f"--memory={self.memory}: the recurrent state of this model has no length; use 0 "
                "to evaluate without it, or leave it out"
            )

    def texts(self, sources: Sequence[str], data: DataSettings) -> dict[str, Any]:
        """Loss, perplexity, bits per byte and accuracy on texts, each as a whole."""
        pairs = self.metadata["task"] == "pairs"
        # one side of a pair is the source, which is read but not scored
        with encode_eval_text(sources, data, self.tokenizer, pairs=pairs) as text:
            notes = {"notes": text.notes} if text.notes else {}
            return self._score(text.file, text.bytes) | notes

    def validation(self, data: DataSettings) -> dict[str, Any]:
        """The same on the validation set of the run, beside its n-gram baseline.

        Raises:
            InputError: the sources were standard input, or have changed.
        """
        trained, settings = self.metadata["data"], self.metadata["settings"]
        if trained["sources"] == ["-"]:
            raise InputError("this run was trained on standard input: name a text to evaluate on")
        check_downloads(self.metadata, Path(str(self.metadata.get("name", "this run"))))
        # prepared again from the sources (or the cache), exactly as training split it
        corpus = load_dataset(
            trained["sources"],
            data,
            config.replace(TokenizerSettings(), settings["tokenizer"], "tokenizer"),
            seed=settings["seed"],
            pairs=self.metadata["task"] == "pairs",
            given=self.tokenizer if has_given_tokenizer(self.metadata) else None,
        )
        # a changed text has another validation set, and its loss would not be comparable
        if corpus.fingerprint != trained["fingerprint"]:
            raise InputError(
                "the text has changed since this run was trained: name a text to evaluate on"
            )
        scores = self._score(corpus.validation, corpus.validation_bytes)
        ngram = self.metadata.get("baseline")
        # an n-gram model sees only one side of a masked token, so its loss is no baseline there
        if ngram and self.task.loss_unit != "hidden token":
            scores |= {"ngram_loss": ngram.get("loss"), "ngram_order": ngram.get("order")}
        return scores

    def _score(self, shard: TokenFile, size: int) -> dict[str, Any]:
        task, usual = self.task, self.task.sequence_length
        task.sequence_length = length = self.sequence_length or usual
        try:
            score = evaluate_loss(
                task,
                task.eval_batches(shard, self.runtime.device),
                text_bytes=scored_bytes(task, shard, self.tokenizer, size),
                runtime=self.runtime,
                metrics=self.metrics,
                memory=self.memory,
            )
        finally:
            task.sequence_length = usual
        assert score is not None
        names = ("loss", "perplexity", "bits_per_byte", "accuracy", "tokens")
        window = {} if self.metadata["task"] == "pairs" else {"sequence_length": length}
        return {**{name: getattr(score, name) for name in names}, **window, **score.metrics}


def data_settings(
    metadata: Mapping[str, Any], changes: Mapping[str, object] | None, table: bool
) -> DataSettings:
    """The data settings of a run with changes such as {"data.encoding": "latin-1"}.

    Args:
        table: whether rows of tables are read, which are skipped only if that is asked for anew.
    """
    data = config.replace(DataSettings(), metadata["settings"]["data"], "data")
    if table:
        data = dataclasses.replace(data, skip_bad=False)
    for section, values in config.sections(changes or {}).items():
        if section != "data":
            raise config.unknown(
                f"--{section}.{next(iter(values))}", [f"--data.{name}" for name in vars(data)]
            )
        data = config.replace(data, values, section)
    return data


def evaluate_table(
    predictor: Predictor,
    metadata: Mapping[str, Any],
    sources: Sequence[str],
    data: DataSettings,
) -> dict[str, Any]:
    """Scores on a table with right answers, beside baselines fitted to the training rows.

    Args:
        predictor: of a fine-tuned model.
        sources: tables, or a built-in one, of which the test part is read; without any, the
            validation part of the run.

    Raises:
        InputError: a table that cannot be used, or labels that training never saw.
    """
    task = predictor.task
    check_metrics(type(task))
    label_info = {name: metadata["finetune"].get(name) for name in ("labels", "mean", "spread")}
    notes: list[str] = []
    # 1. the rows of the run: the baselines are fitted to its training rows
    train, rows = _run_rows(metadata, notes)
    if sources:
        # 2. the rows to evaluate on: other tables, or else the validation set
        rows = _table_rows(predictor, metadata, sources, data, notes)
        if seen := count_shared(type(task), train, rows):
            notes.append(
                f"{seen:,} of {len(rows):,} rows are training rows: scores on them say little"
            )
    elif not rows:
        raise InputError(f"{notes[-1]}; name a table to evaluate on")
    if task.ANSWER_TYPE == "labels":
        notes += missing_labels(type(task), label_info["labels"], rows)
    if isinstance(task, Dpo):
        rows = _with_reference(rows, predictor, task, metadata, notes)
    # 3. predictions and their scores, beside those of the baselines
    answers = predictor.predict(rows)
    return evaluate_rows(metadata["task"], type(task), rows, answers, label_info, train, notes)


def _with_reference(
    rows: list[Row],
    predictor: Predictor,
    task: Dpo,
    metadata: Mapping[str, Any],
    notes: list[str],
) -> list[Row]:
    """Pairs with their log-probabilities under the model before training; as they are, with a note,
    where that is not at hand."""
    before = metadata["finetune"]["base"]
    try:
        base = open_base(before["run"], offline=True)
        # tokens that were added have rows that this model never had
        known = base.tokenizer.vocab_size == predictor.tokenizer.vocab_size
        reason = "" if known and weights_digest(base) == before["weights"] else "it has changed"
    except ScrivenError as error:
        reason = str(error)
    if reason or before["fresh"]:
        notes.append(
            "rewards and accuracy are those of the likelier answer, since the model before "
            f"training is not at hand: {reason or 'it had random weights'}"
        )
        return rows
    special = predictor.tokenizer.special_token_ids
    reference = Dpo(base.task.backbone, None, special, metadata["finetune"])
    reference.head = base.task.head
    reader = Predictor(
        reference.to(predictor.runtime.device), predictor.tokenizer, predictor.engine,
        predictor.runtime,
    )  # fmt: skip
    pairs = zip(rows, reader.predict(rows), strict=True)
    return [{**row, REFERENCE: list(answer.probabilities[2:])} for row, answer in pairs]


def _run_rows(metadata: Mapping[str, Any], notes: list[str]) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows of the run; empty, with a note, where they cannot be read."""
    finetuned, trained = metadata["finetune"], metadata["data"]
    if "-" in (*trained["sources"], finetuned.get("validation")):
        notes.append("no baselines, since the training rows came from standard input")
        return [], []
    columns = ",".join(f"{own}={name}" for own, name in (finetuned.get("columns") or {}).items())
    try:
        check_downloads(metadata, Path(str(metadata.get("name"))))
        table = load_table(
            trained["sources"],
            config.replace(DataSettings(), metadata["settings"]["data"], "data"),
            task=metadata["task"],
            columns=columns,
            validation=finetuned.get("validation"),
            seed=metadata["settings"]["seed"],
            group=finetuned.get("group"),
        )
    except ScrivenError as error:
        notes.append(f"no baselines, since the training rows cannot be read: {error}")
        return [], []
    if table.fingerprint != trained["fingerprint"]:
        notes.append("no baselines, since the training rows have changed")
        return [], []
    return table.train, table.validation


def _table_rows(
    predictor: Predictor,
    metadata: Mapping[str, Any],
    sources: Sequence[str],
    data: DataSettings,
    notes: list[str],
) -> list[Row]:
    """The rows of a table with right answers; refuses a label that the model does not know."""
    task = predictor.task
    with Table(sources, data, "test") as table:
        chosen = table_columns(task, metadata, table.columns, answers=True)
        known = partial(task.encode, predictor.tokenizer)
        labels = metadata["finetune"].get("labels") if task.ANSWER_TYPE == "labels" else None
        return read_examples(table, type(task), chosen, data, notes, labels, known)
