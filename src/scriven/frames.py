"""Data of a program in the Python interface: frames, lists, data sets and iterators in place of
files, and predictions that come back as what was given."""

import contextlib
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

from .data.memory import (
    Naming,
    as_files,
    has_class,
    is_arrow_part,
    is_frame,
    items_of,
    narwhals,
    token_ids,
)
from .errors import InputError, SettingError
from .generate.predict import AT_ONCE, Prediction, Predictor, as_rows, free_name, named_answer
from .import_.base import open_base
from .tokenizers import Tokenizer
from .train.load_table import table_tasks


@contextlib.contextmanager
def request_in_files(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments of a training with names of files in place of data; see `as_files`.

    Args:
        asked: the fields of a `TrainRequest`; `sources` and `validation` may be data.
    """
    base = asked.get("base") or asked.get("start")
    tables = asked.get("base") is not None

    @cache
    def tokenizer() -> Tokenizer:
        return open_base(str(base), asked.get("arch")).tokenizer

    columns: Sequence[str] = ("text", "label") if tables else ()
    if tables and asked.get("task") in (tasks := table_tasks()):
        own = tasks[asked["task"]].COLUMNS
        columns = [name for name, column in own.items() if not (column.joins or column.optional)]
    naming = Naming(columns, None if base is None else tokenizer)
    sources, validation = list(asked.get("sources") or ()), asked.get("validation")
    given = [*sources, *([] if validation is None else [validation])]
    with as_files(given, naming, texts=not tables) as names:
        held_out = names[-1] if validation is not None else None
        fields = {"sources": names[: len(sources)], "validation": held_out}
        yield {**asked, **{name: value for name, value in fields.items() if name in asked}}


def named_columns(
    data: tuple[Any, ...],
    columns: str | Mapping[str, str],
    task: str | None,
    named: Mapping[str, Any],
) -> tuple[tuple[Any, ...], str, str | None]:
    """(data, columns, task) of a fine-tuning whose columns are given as arguments.

    Args:
        named: by the task's name of a column its name in the data, as in text="review", or its
            values, as in text=[...], label=[...].

    Raises:
        SettingError: an argument that no task has as a column, or that fits no task or several.
    """
    pairs = dict(columns) if isinstance(columns, Mapping) else {}
    pairs |= {name: value for name, value in named.items() if isinstance(value, str)}
    values = {name: value for name, value in named.items() if not isinstance(value, str)}
    tasks = table_tasks()
    for name in named:
        if not any(name in each.COLUMNS for each in tasks.values()):
            known = ", ".join(
                dict.fromkeys(name for each in tasks.values() for name in each.COLUMNS)
            )
            raise SettingError(f"unknown argument {name}: columns are named by {known}")
    # 1. columns of values are a table; data before them are the texts
    if values:
        if data:
            (values["text"],) = data if len(data) == 1 and "text" not in values else (None,)
        if values.get("text", ()) is None or pairs:
            raise SettingError("give either data and the names of its columns, or all columns")
        return (values,), "", task
    # 2. names of columns decide the task, where it is not given
    if pairs and task is None:
        fitting = [
            name
            for name, each in tasks.items()
            if pairs.keys() <= each.COLUMNS.keys()
            and all(each.COLUMNS[own].answer is False or own in pairs for own in each.COLUMNS)
        ]
        if len(fitting) != 1:
            raise SettingError(
                f"the columns {', '.join(pairs)} fit {' and '.join(fitting) or 'no task'}: choose "
                "one with --task"
            )
        (task,) = fitting
    written = ",".join(f"{own}={name}" for own, name in pairs.items())
    return data, written if written or not isinstance(columns, str) else columns, task


# ------------------------------------------------------------------ predictions


def predict(predictor: Predictor, metadata: Mapping[str, Any], inputs: Any) -> Any:
    """Predictions in the form of the inputs.

    A frame, an Arrow table, a dict of columns or a data set of `datasets` comes back with further
    columns, named as in the output of `scriven predict`; an iterator as an iterator, which reads
    and holds a block of inputs at a time; all else as a list of (answer, probability or None).

    Raises:
        InputError: an input that cannot be used.
    """
    # a dict of texts is one row, and one of lists holds columns
    values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    if any(isinstance(value, str | bytes) for value in values):
        raise InputError("give a list of inputs, as in predict([...]), also for one")
    if isinstance(inputs, Mapping) or has_class(inputs, "datasets.", "Dataset"):
        columns = _columns(predictor, metadata, inputs, list(_column_names(inputs)))
        if isinstance(inputs, Mapping):
            return {**inputs, **{name: list(values) for name, values in columns.items()}}
        for name, values in columns.items():
            inputs = inputs.add_column(name, list(values))
        return inputs
    is_table = is_frame(inputs) and not is_arrow_part(inputs)
    if is_table and hasattr(frame := narwhals(inputs), "iter_rows"):
        columns = _columns(predictor, metadata, frame, frame.columns)
        series = (_series(frame, name, values) for name, values in columns.items())
        return frame.with_columns(*series).to_native()
    answers = (_pair(each) for each in predictions(predictor, metadata, inputs))
    return answers if isinstance(inputs, Iterator) else list(answers)


def predictions(
    predictor: Predictor, metadata: Mapping[str, Any], inputs: Any
) -> Iterator[Prediction]:
    """The prediction of each input, in their order, read in blocks: memory stays the same however
    many there are."""
    rows = as_rows(predictor.task, _readable(predictor, inputs), metadata)
    while block := list(islice(rows, AT_ONCE)):
        yield from predictor.predict(block)


def _readable(predictor: Predictor, inputs: Any) -> Iterable[Any]:
    """The inputs as `as_rows` takes them: token ids as the text that they stand for."""
    for item in items_of(inputs, Naming(tokenizer=lambda: predictor.tokenizer)):
        ids = token_ids(item)
        yield item if ids is None else predictor.tokenizer.decode(ids.tolist())


def _pair(answer: Prediction) -> tuple[str, float | None]:
    return answer.text, max(answer.probabilities, default=None)


def _column_names(inputs: Any) -> Iterable[str]:
    return inputs if isinstance(inputs, Mapping) else inputs.column_names


def _columns(
    predictor: Predictor, metadata: Mapping[str, Any], inputs: Any, taken: Sequence[str]
) -> dict[str, Any]:
    """The columns of the predictions, by names that are not taken."""
    columns: dict[str, Any] = {}
    for number, answer in enumerate(predictions(predictor, metadata, inputs)):
        said = named_answer(predictor.task, metadata, answer)
        for name in [name for name in said if name not in columns]:  # more choices than before
            # 8 bytes for a number, not those of an object
            is_number = isinstance(said[name], float)
            columns[name] = array("d", [math.nan] * number) if is_number else [None] * number
        for name, values in columns.items():
            values.append(said.get(name, math.nan if isinstance(values, array) else None))
    return {free_name(name, taken): values for name, values in columns.items()}


def _series(frame: Any, name: str, values: Any) -> Any:
    import narwhals.stable.v2 as nw

    kind = None if isinstance(values, list) else nw.Float64()
    return nw.new_series(name, list(values), kind, backend=nw.get_native_namespace(frame))
