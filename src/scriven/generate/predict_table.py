"""Predictions of a fine-tuned model for the rows of a table, or for inputs given in Python."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from ..data.table import Table, TableRow
from ..errors import InputError
from ..files import write_stream
from ..settings import DataSettings
from ..tasks.shared.columns import (
    BadValue,
    Row,
    has_column,
    match_columns,
    missing_columns,
    read_row,
)
from ..tasks.shared.supervised import SupervisedTask
from .predict import Prediction, Predictor

AT_ONCE = 2048
"""Rows that are answered together."""


def as_rows(task: SupervisedTask, inputs: Iterable[Any]) -> Iterator[Row]:
    """What a person gives in Python: texts, tuples in the order of the task's columns, or dicts.

    Raises:
        InputError: names the input by its number and what is wrong with it.
    """
    asked = {name: column for name, column in task.COLUMNS.items() if not column.answer}
    needed = [name for name, column in asked.items() if not column.joins]
    if isinstance(inputs, str | Mapping):
        raise InputError("give a list of inputs, as in predict([...]), also for one")
    for number, value in enumerate(inputs, 1):
        if (
            "messages" in asked
            and isinstance(value, list)
            and value
            and isinstance(value[0], Mapping)
        ):
            value = (value,)  # a conversation
        if isinstance(value, str):
            value = (value,) if "messages" not in asked else ([{"role": "user", "content": value}],)
        try:
            if (
                isinstance(value, Sequence)
                and not isinstance(value, str)
                and len(needed) <= len(value) <= len(asked)
            ):
                value = dict(zip(asked, value, strict=False))
            chosen = match_columns(asked, value) if isinstance(value, Mapping) else None
            if chosen is None:
                raise BadValue(f"is not {' and '.join(needed)}: give them as a tuple or a dict")
            yield read_row(asked, chosen, dict(value))
        except BadValue as error:
            raise InputError(f"input {number} {error}") from error


class TablePredictions:
    """Iterates over the rows of a table with the model's predictions, in constant memory.

    Args:
        predictor: of a fine-tuned model.
        metadata: of its run.
        sources: tables, `-`, or a built-in one.
        data: encoding, and whether bad rows are skipped.
        part: of a built-in table.
    """

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

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Prediction]]:
        """Yields (the row as it stands in the table, its answer)."""
        task = self.predictor.task
        asked = {name: column for name, column in task.COLUMNS.items() if not column.answer}
        with Table(self.sources, self.data, self.part) as table:
            chosen = table_columns(task, self.metadata, table.columns, answers=False)
            for block in _blocks(table):
                kept: list[tuple[dict[str, Any], Row]] = []
                for row in block:
                    try:
                        if row.skipped:
                            self._skip(row)
                            continue
                        kept.append((row.values, read_row(asked, chosen, row.values)))
                    except BadValue as error:
                        self._skip(row.bad(str(error), self.data))
                answers = self.predictor.predict([row for _, row in kept])
                for (raw, _), answer in zip(kept, answers, strict=True):
                    self.rows += 1
                    self.cut += answer.cut > 0
                    yield raw, answer

    def _skip(self, row: TableRow) -> None:
        self.skipped += 1
        self.first_skipped = self.first_skipped or row.skipped


def table_columns(
    task: SupervisedTask, metadata: Mapping[str, Any], found: Sequence[str], answers: bool
) -> dict[str, str]:
    """The task's columns -> those of another table, which are named as in training or as usual.

    Args:
        metadata: of the fine-tuned run.
        found: the columns of the table.
        answers: whether the columns of right answers are needed too.

    Raises:
        InputError: one is missing; the text lists those found.
    """
    trained = dict(metadata["finetune"]["columns"])
    columns = {
        name: column
        for name, column in task.COLUMNS.items()
        if (answers or not column.answer) and (name in trained or not column.joins)
    }
    given = {
        name: other
        for name, other in trained.items()
        if has_column(other, found) and name in columns
    }
    chosen = match_columns(columns, found, given)
    if chosen is None:
        name = metadata["task"]
        raise InputError(missing_columns(name, columns, found, {}).partition(": name them")[0])
    return chosen


def write_predictions(answers: TablePredictions, out: Path | None, show: Any) -> None:
    """Answers as a table: to a file, whole or not at all, or line by line to `show`.

    Args:
        out: .csv, .tsv or .jsonl; None shows JSON lines.
    """
    suffix = ".jsonl" if out is None else out.suffix.lower()
    if suffix not in (".csv", ".tsv", ".jsonl"):
        raise InputError(f"{out} is no table: name a .csv, .tsv or .jsonl file with -o")
    lines = _lines(answers, suffix)
    if out is None:
        for line in lines:
            show(line)
        return
    write_stream(out, (line.encode(errors="replace") for line in lines))


def with_prediction(
    answers: TablePredictions, raw: Mapping[str, Any], answer: Prediction
) -> dict[str, Any]:
    """A row with its answer: `prediction`, and the probability of it and of each label.

    A column of the row that has such a name stays, and the new one gets a number: `prediction_2`.
    """
    score = answers.predictor.task.ANSWER_TYPE == "numbers"
    said: dict[str, Any] = {"prediction": round(answer.value, 6) if score else answer.text}
    if answer.probabilities:
        said["probability"] = round(max(answer.probabilities), 6)
        labels = answers.metadata["finetune"].get("labels")
        names = labels or [str(number) for number in range(len(answer.probabilities))]
        for name, chance in zip(names, answer.probabilities, strict=True):
            said[f"p({name})"] = round(chance, 6)
    return {**raw, **{_free(name, raw): value for name, value in said.items()}}


def _free(name: str, taken: Mapping[str, Any]) -> str:
    numbered = (f"{name}_{number}" for number in count(2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def _lines(answers: TablePredictions, suffix: str) -> Iterator[str]:
    header: list[str] | None = None
    for raw, answer in answers:
        found = with_prediction(answers, raw, answer)
        if suffix == ".jsonl":
            yield json.dumps(_finite(found), ensure_ascii=False, default=str) + "\n"
            continue
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
        if header is None:
            header = list(found)
            writer.writerow(header)
        for name in found.keys() - set(header):
            raise InputError(
                f"row {answers.rows} has a column {name} that the first one lacks: "
                "name a .jsonl file with -o"
            )
        writer.writerow([_cell(found.get(name, "")) for name in header])
        yield text.getvalue()


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


def _blocks(table: Table) -> Iterator[list[TableRow]]:
    block: list[TableRow] = []
    for row in table:
        block.append(row)
        if len(block) == AT_ONCE:
            yield block
            block = []
    if block:
        yield block
