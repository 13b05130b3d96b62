"""Predictions for the rows of a table, or for inputs given in Python: labels with probabilities,
scores, choices, or texts.

`Predictor` predicts encoded rows in batches, `TablePredictions` the rows of a table of any length
in constant memory, and `write_predictions` adds them to the table as columns.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch

from ..data.decoding import read_head, strip_compression
from ..data.table import Table
from ..errors import InputError
from ..files import printable, write_stream
from ..runtime import Runtime
from ..settings import DataSettings
from ..tasks.base import BaseTask
from ..tasks.dpo import Dpo
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.columns import (
    BadValue,
    Row,
    has_column,
    match_columns,
    missing_columns,
    read_row,
)
from ..tasks.shared.supervised import Example, SupervisedTask, length_bucketed_batches
from ..tasks.shared.text_generation import TextGeneration
from ..tasks.shared.words import WordScoring
from ..tokenizers import Tokenizer, clean
from .engine import Engine
from .sampling import SamplingParams, check_beams

AT_ONCE = 2048
"""Rows of a table that are read at once, so that rows of similar length share a batch."""
MAX_NEW_TOKENS = 256  # default limit of a generated answer, in tokens


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one row."""

    text: str  # the label, the score, the chosen text, the span, or the generated text
    value: Any
    """Index of a label or choice; the score; number of tokens of a generated text; the labels, the
    tags, the scores of the documents, or the span."""
    probabilities: tuple[float, ...] = ()
    """Of each label, choice or document, or of the span; of a preference as `Dpo.predictions`."""
    cut: int = 0  # tokens of the row that did not fit
    ended: bool = True  # whether a generated text ended by itself, and not at the limit


class Predictor:
    """A fine-tuned model with what it needs to predict rows.

    Raises:
        SettingError: an impossible number of beams (1 is greedy decoding), or length penalty.
    """

    def __init__(
        self,
        task: BaseTask,
        tokenizer: Tokenizer,
        engine: Engine,
        runtime: Runtime,
        *,
        beams: int = 1,
        length_penalty: float = 1.0,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        assert isinstance(task, SupervisedTask)
        check_beams(beams, length_penalty)
        self.task, self.tokenizer, self.engine, self.runtime = task, tokenizer, engine, runtime
        self.beams, self.length_penalty = beams, length_penalty
        self.max_new_tokens = max_new_tokens

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """A prediction for each row.

        Raises:
            BadValue: a row that cannot be used.
        """
        task = self.task
        examples = [task.example(self.tokenizer, task.shown(row)) for row in rows]
        is_pair = isinstance(task, Dpo) and len(examples) > 0 and len(examples[0].rows) == 2
        if isinstance(task, TextGeneration) and not is_pair:
            predictions = self._generate(task, examples)
        else:
            assert isinstance(task, SequenceClassification | WordScoring | Dpo)
            predictions = self._score(task, rows, examples)
        return [predictions[number] for number in range(len(rows))]

    def _score(
        self,
        task: SequenceClassification | WordScoring | Dpo,
        rows: Sequence[Row],
        examples: Sequence[Example],
    ) -> dict[int, Prediction]:
        # by the number of the row: batches go by length, so answers come in another order
        predictions: dict[int, Prediction] = {}
        training = task.training
        task.eval()
        try:
            for numbers in length_bucketed_batches(examples):
                batch = task.collate([examples[number] for number in numbers], self.runtime.device)
                with torch.inference_mode(), self.runtime.autocast():
                    outputs = task.predictions(batch).cpu()  # (E, ...)
                for number, output in zip(numbers, outputs.tolist(), strict=True):
                    example = examples[number]
                    answer = task.format_answer(output, rows[number], example)
                    predictions[number] = Prediction(*answer, example.cut)
        finally:
            task.train(training)
        return predictions

    def _generate(self, task: TextGeneration, examples: Sequence[Example]) -> dict[int, Prediction]:
        # rows of similar length share a batch: less padding
        order = sorted(range(len(examples)), key=lambda number: (examples[number].length, number))
        prompts = [task.prompt_of(examples[number]) for number in order]
        if self.beams > 1:
            results = self.engine.beam_search(
                prompts, self.beams, self.max_new_tokens, length_penalty=self.length_penalty
            )
        else:
            greedy = SamplingParams(temperature=0)
            results = self.engine.generate(prompts, greedy, self.max_new_tokens)
        predictions: dict[int, Prediction] = {}
        for number, result in zip(order, results, strict=True):
            text, tokens = result.text.strip(), float(result.tokens)
            cut, ended = examples[number].cut, result.finish_reason == "eos"
            predictions[number] = Prediction(text, tokens, (), cut, ended)
        return predictions


def as_rows(
    task: SupervisedTask, inputs: Iterable[Any], metadata: Mapping[str, Any] | None = None
) -> Iterator[Row]:
    """What a person gives in Python: texts, tuples in the order of the task's columns, or dicts,
    with the names of the columns that training had (`metadata`) or the usual ones.

    Raises:
        InputError: names the input by its number and what is wrong with it.
    """
    asked = {name: column for name, column in task.COLUMNS.items() if not column.answer}
    needed = [name for name, column in asked.items() if not column.may_be_missing]
    metadata = metadata or {}
    trained = dict((metadata.get("finetune") or {}).get("columns") or {})
    for number, value in enumerate(inputs, 1):
        # 1. a text or a conversation alone stands for a tuple of one
        is_chat = "messages" in asked
        if is_chat and isinstance(value, list) and value and isinstance(value[0], Mapping):
            value = (value,)
        if isinstance(value, str):
            value = ([{"role": "user", "content": value}],) if is_chat else (value,)
        # 2. a tuple in the order of the columns becomes a dict
        try:
            if isinstance(value, Sequence) and len(needed) <= len(value) <= len(asked):
                value = dict(zip(asked, value, strict=False))
            elif isinstance(value, Sequence) and len(value) == len(task.COLUMNS):
                value = dict(zip(task.COLUMNS, value, strict=True))  # with the right answer
            chosen = None
            if isinstance(value, Mapping):
                own = {name: trained[name] for name in asked if trained.get(name) in value}
                chosen = match_columns(asked, value, own)
            if chosen is None and isinstance(value, Mapping):
                lacking = missing_columns(str(metadata.get("task")), asked, list(value), own)
                raise BadValue(f"cannot be used: {lacking.partition(': name them')[0]}")
            if chosen is None or not task.fits(chosen, answers=False):
                raise BadValue(f"is not {' and '.join(needed)}: give them as a tuple or a dict")
            yield read_row(asked, chosen, dict(value))
        except BadValue as error:
            raise InputError(f"input {number} {error}") from error


class TablePredictions:
    """Iterates over the rows of a table with the model's predictions, in constant memory."""

    def __init__(
        self,
        predictor: Predictor,
        metadata: Mapping[str, Any],
        sources: Sequence[str],
        data: DataSettings,
        part: str = "test",
    ) -> None:
        self.predictor, self.metadata = predictor, metadata
        self.sources, self.data, self.part = sources, data, part
        self.rows = self.skipped = self.cut = 0
        self.first_skipped = ""
        self.renamed = ""

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Prediction]]:
        """Yields (the row as it stands in the table, its answer)."""
        task = self.predictor.task
        asked = {name: column for name, column in task.COLUMNS.items() if not column.answer}
        with Table(self.sources, self.data, self.part) as table:
            chosen = table_columns(task, self.metadata, table.columns, answers=False)
            # a block at a time, so that a table of any length fits into memory
            table_rows = iter(table)
            while block := list(islice(table_rows, AT_ONCE)):
                kept: list[tuple[dict[str, Any], Row]] = []
                for row in block:
                    try:
                        if not row.skipped:
                            kept.append((row.values, read_row(asked, chosen, row.values)))
                            continue
                    except BadValue as error:
                        row = row.bad(str(error), self.data)
                    self.skipped += 1
                    self.first_skipped = self.first_skipped or row.skipped
                # beside rows of other lengths a prediction differs in its last digits only
                answers = self.predictor.predict([row for _, row in kept])
                for (raw, _), answer in zip(kept, answers, strict=True):
                    self.rows += 1
                    self.cut += answer.cut > 0
                    yield raw, answer


def table_columns(
    task: SupervisedTask, metadata: Mapping[str, Any], found: Sequence[str], answers: bool
) -> dict[str, str]:
    """The task's columns -> those of another table, which are named as in training or as usual.

    Args:
        found: the columns of the table.
        answers: whether the columns of right answers are needed too.

    Raises:
        InputError: one is missing; the text lists those found.
    """
    trained = dict(metadata["finetune"].get("columns") or {})
    # 1. the columns that training had, without optional ones that it lacked
    columns = {
        name: column
        for name, column in task.COLUMNS.items()
        if (answers or not column.answer) and (name in trained or not column.may_be_missing)
    }
    # 2. named as in training where the table has such names, otherwise found as usual
    given = {name: trained[name] for name in columns if has_column(trained.get(name), found)}
    chosen = match_columns(columns, found, given)
    if chosen is None or not task.fits(chosen, answers):
        name = metadata["task"]
        raise InputError(missing_columns(name, columns, found, {}).partition(": name them")[0])
    return chosen


def write_predictions(
    answers: TablePredictions, out: Path | None, show: Callable[[dict[str, Any]], object]
) -> None:
    """Answers as a table: to a file, whole or not at all, or row by row to `show`."""
    if out is None:
        for raw, answer in answers:
            show(_finite(with_prediction(answers, raw, answer)))
        return
    lines = _lines(answers, out.suffix.lower())
    write_stream(out, (clean(line).encode() for line in lines))


def check_output(out: Path) -> Path:
    """A file that predictions can be written to. Raises InputError for any other."""
    where = printable(out)
    if out.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        raise InputError(f"{where} is no table: name a .csv, .tsv or .jsonl file with -o")
    if out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        raise InputError(f"{where} cannot be written: name a file in a folder there is with -o")
    return out


def with_prediction(
    answers: TablePredictions, raw: Mapping[str, Any], answer: Prediction
) -> dict[str, Any]:
    """A row with its answer: `prediction`, and the probability of it and of each label.

    A column of the row that has such a name stays, and the new one gets a number: `prediction_2`.
    """
    said = named_answer(answers.predictor.task, answers.metadata, answer)
    names = {name: free_name(name, raw) for name in said}
    answers.renamed = ", ".join(set(names.values()) - set(names)) or answers.renamed
    return {**raw, **{names[name]: value for name, value in said.items()}}


def named_answer(
    task: SupervisedTask, metadata: Mapping[str, Any], answer: Prediction
) -> dict[str, Any]:
    """A prediction as columns: `prediction`, `probability`, and `p(NAME)` of each label."""
    kind = task.ANSWER_TYPE
    value: Any = answer.text
    if kind == "numbers":
        value = round(answer.value, 6)
    elif kind in ("labelsets", "tags"):
        value = list(answer.value)
    said: dict[str, Any] = {"prediction": value}
    if answer.probabilities and kind != "labelsets":  # of which no one is that of the set
        said["probability"] = round(max(answer.probabilities), 6)
    if answer.probabilities and kind != "spans":
        labels = metadata["finetune"].get("labels")
        names = labels or [str(number) for number in range(len(answer.probabilities))]
        for name, chance in zip(names, answer.probabilities, strict=True):
            said[f"p({name})"] = round(chance, 6)
    return said


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or with a number where it is taken."""
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(each for each in names if each not in taken)


def _lines(answers: TablePredictions, suffix: str) -> Iterator[str]:
    header: list[str] | None = None
    has_quotes = answers.data.quoting not in (None, "none")
    is_plain = suffix == ".tsv" and not has_quotes and all(map(_is_plain_tsv, answers.sources))
    for raw, answer in answers:
        found = with_prediction(answers, raw, answer)
        if suffix == ".jsonl":
            yield json.dumps(_finite(found), ensure_ascii=False, default=str) + "\n"
            continue
        text = io.StringIO()
        # a .tsv has no quotes, or says by its header that it has
        writer = csv.writer(
            text,
            delimiter="\t" if suffix == ".tsv" else ",",
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if suffix == ".tsv" else csv.QUOTE_MINIMAL,
        )
        rows = [] if header is not None else [list(found)]
        header = header or rows[0]
        # rows of a .jsonl table may differ in their columns, those of a .csv file may not
        for name in found.keys() - set(header):
            raise InputError(
                f"row {answers.rows} has a column {name} that the first one lacks: "
                "name a .jsonl file with -o"
            )
        rows.append([_cell(found.get(name, "")) for name in header])
        if is_plain:
            for row in rows:
                yield "\t".join(re.sub(r"[\t\r\n]+", " ", str(cell)) for cell in row) + "\n"
            continue
        writer.writerows(rows)
        yield text.getvalue()


def _is_plain_tsv(name: str) -> bool:
    """Whether a source is a .tsv without quotes around its fields."""
    path = Path(name)
    is_tsv = strip_compression(path).suffix.lower() == ".tsv" and path.is_file()
    return is_tsv and read_head(path, 1) not in (b'"', b"'")


def _finite(value: Any) -> Any:
    """A value for JSON: null for NaN and infinities, which JSON lacks though tables hold them."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    """What stands in a cell: what is more than a text or a number as JSON."""
    nested = isinstance(value, list | dict)
    return json.dumps(value, ensure_ascii=False, default=str) if nested else value
