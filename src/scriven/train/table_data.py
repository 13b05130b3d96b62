"""What a fine-tuning stands on: which task a table is for, and its rows in token ids.

Everything a person can get wrong in a table is refused here, before anything is written.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .. import registry
from ..data.table import Table, fingerprint
from ..data.tables import builtin
from ..errors import InputError, SettingError
from ..models.base import Architecture
from ..settings import DataSettings
from ..tasks.shared.classification import number_of
from ..tasks.shared.columns import BadValue, Row, missing, parse_columns, resolve, values
from ..tasks.shared.supervised import Example, SupervisedTask
from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class TableData:
    """Rows that were read and checked."""

    name: str
    """Of the task."""
    task: type[SupervisedTask]
    columns: dict[str, str]
    """The task's columns -> the table's."""
    train: list[Row]
    validation: list[Row]
    fingerprint: str
    label: str
    """A name for the run."""
    notes: list[str]


def tasks() -> dict[str, type[SupervisedTask]]:
    """Every task that reads tables, by name."""
    found = {
        name: registry.module("scriven.tasks", name).Task
        for name in registry.names("scriven.tasks")
    }
    return {name: task for name, task in found.items() if issubclass(task, SupervisedTask)}


def choose_task(
    asked: str | None, columns: Sequence[str], words: str
) -> tuple[str, dict[str, str]]:
    """The task and which column is which, by what was asked for or by the columns.

    Raises:
        InputError: the columns do not tell, or one is missing; the text lists those found.
    """
    known = tasks()
    if asked is not None:
        task = known.get(asked)
        if task is None and asked not in registry.names("scriven.tasks"):
            raise SettingError(f"--task {asked}: known are {', '.join(known)}")
        if task is None:
            raise SettingError(f"--task {asked} reads texts, not tables: use {', '.join(known)}")
        given = parse_columns(words, task.COLUMNS)
        chosen = resolve(task.COLUMNS, columns, given)
        if chosen is None:
            raise InputError(missing(asked, task.COLUMNS, columns, given))
        return asked, chosen
    if words:
        raise SettingError(f"--columns {words}: name the task as well, with --task")
    fitting = {
        name: chosen
        for name, task in known.items()
        if (chosen := resolve(task.COLUMNS, columns, named=False)) is not None
    }
    # a task that uses all columns of another one and more is the one that is meant
    best = {
        name: chosen
        for name, chosen in fitting.items()
        if not any(set(chosen.values()) < set(other.values()) for other in fitting.values())
    }
    if len(best) != 1:
        have = ", ".join(columns[:30])
        if not best:
            raise InputError(
                f"no task is known by the columns {have}: name it with --task "
                f"({', '.join(known)}), and its columns with --columns"
            )
        raise InputError(
            f"the columns {have} fit the tasks {' and '.join(best)}: choose one with --task"
        )
    return next(iter(best.items()))


def load_table(
    sources: Sequence[str],
    data: DataSettings,
    *,
    task: str | None,
    columns: str,
    validation: str | None,
    seed: int,
) -> TableData:
    """Reads a table, splits it, and checks every row.

    The validation part is the file `validation`, the built-in table's own, or rows drawn by the
    seed; equal rows always stay on the same side.

    Raises:
        InputError: names the row and what is wrong with it.
    """
    notes: list[str] = []
    with Table(sources, data) as table:
        found = table.columns
        name, chosen = choose_task(task, found, columns)
        kind = tasks()[name]
        rows = checked(table, kind, chosen, data, notes)
        label = table.name
    if not rows:
        raise InputError(f"no row of {label} can be used: {notes[-1]}")
    if validation is None and len(sources) == 1 and builtin(sources[0]) is not None:
        with Table(sources, data, "validation") as table:
            held_out = checked(table, kind, chosen, data, notes)
    elif validation is not None:
        with Table([validation], data) as table:
            there = resolve(kind.COLUMNS, table.columns, chosen)
            if there is None:
                raise InputError(missing(name, kind.COLUMNS, table.columns, chosen))
            held_out = checked(table, kind, there, data, notes, also=_knows(kind, rows))
    else:
        rows, held_out = split(kind, rows, data.val_fraction, seed)
        if kind.ANSWER_TYPE == "labels":
            kind.label_metadata([*rows, *held_out])  # tells what is no column of labels
            rows, held_out = keep_rare(kind, rows, held_out, notes)
    if not rows or not held_out:
        raise InputError(
            f"{len(rows)} training and {len(held_out)} validation rows are too few: give more "
            "different rows, or a file with --validation"
        )
    both = shared(kind, rows, held_out)
    if both:
        notes.append(
            f"{both:,} of {len(held_out):,} validation rows are training rows too: scores on them "
            "tell nothing"
        )
    digest = hashlib.sha256((fingerprint(rows) + fingerprint(held_out)).encode()).hexdigest()
    return TableData(name, kind, chosen, rows, held_out, digest, label, notes)


def checked(
    table: Table,
    task: type[SupervisedTask],
    chosen: Mapping[str, str],
    data: DataSettings,
    notes: list[str],
    also: Callable[[Row], object] | None = None,
) -> list[Row]:
    """The rows as the task uses them; bad ones are counted in `notes`, where they may be skipped.

    Args:
        also: called with each row; raises BadValue where it cannot be used.

    Raises:
        InputError: a bad row.
    """
    rows, skipped, first = [], 0, ""
    for row in table:
        wrong = row
        if not row.skipped:
            try:
                found = values(task.COLUMNS, chosen, row.values)
                task.check_answer(found)
                if also is not None:
                    also(found)
                rows.append(found)
                continue
            except BadValue as error:
                wrong = row.bad(str(error), data)
        skipped, first = skipped + 1, first or wrong.skipped
    if skipped:
        notes.append(f"{skipped:,} rows were skipped, first {first}")
    return rows


def split(
    task: type[SupervisedTask], rows: list[Row], share: float, seed: int
) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows; a row's side depends on what it asks and the seed alone, so
    nothing is asked on both sides."""
    if not 0 < share < 1:
        raise SettingError(f"--data.val_fraction={share}: between 0 and 1, as 0.1")
    keys = [fingerprint([task.without_answer(row)]) for row in rows]
    if len(set(keys)) < 2:  # one question with many answers
        keys = [fingerprint([row]) for row in rows]
    times = Counter(keys)
    order = sorted(times, key=lambda key: _key(key, seed))
    wanted, held_out, count = share * len(rows), set[str](), 0
    for key in order[:-1]:  # something is left to learn from
        if count + times[key] / 2 <= wanted:
            held_out.add(key)
            count += times[key]
    if not held_out and len(order) > 1:
        held_out.add(min(order, key=lambda key: times[key]))
    sides: tuple[list[Row], list[Row]] = ([], [])
    for key, row in zip(keys, rows, strict=True):
        sides[key in held_out].append(row)
    return sides


def keep_rare(
    task: type[SupervisedTask], rows: list[Row], held_out: list[Row], notes: list[str]
) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows, where no label is held out altogether: it could not be learned,
    and so not be measured."""
    seen = {task.gold_answer(row) for row in rows}
    rare = [row for row in held_out if task.gold_answer(row) not in seen]
    if rare:
        notes.append(f"{len(rare):,} rows with labels of no other row are not held out")
    return [*rows, *rare], [row for row in held_out if task.gold_answer(row) in seen]


def encoded(
    kind: type[SupervisedTask],
    backbone: Architecture,
    tokenizer: Tokenizer,
    facts: Mapping[str, Any],
    rows: Sequence[Row],
) -> list[Example]:
    """Rows in token ids.

    Raises:
        InputError: a row that cannot be used.
    """
    with torch.device("meta"):
        task = kind(backbone, None, tokenizer.special_token_ids, facts)
    found = []
    for row in rows:
        try:
            found.append(task.encode(tokenizer, row))
        except BadValue as error:
            raise InputError(f"the row {kind.format_row(row)[:60]!r} {error}") from error
    return found


def _knows(task: type[SupervisedTask], rows: list[Row]) -> Callable[[Row], object] | None:
    """What refuses a row with a label that these rows have not."""
    if task.ANSWER_TYPE != "labels":
        return None
    labels = task.label_metadata(rows)["labels"]
    return lambda row: number_of(task.gold_answer(row), labels)


def _key(digest: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{digest}".encode()).hexdigest()


def shared(task: type[SupervisedTask], rows: Sequence[Row], others: Sequence[Row]) -> int:
    """How many of the others ask what one of the rows asks."""
    have = {fingerprint([task.without_answer(row)]) for row in rows}
    return sum(fingerprint([task.without_answer(row)]) in have for row in others)


__all__ = ["TableData", "checked", "choose_task", "encoded", "load_table", "shared", "tasks"]
