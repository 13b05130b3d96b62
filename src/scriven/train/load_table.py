"""Reads a table for fine-tuning: which task it is for, its rows checked, and split.

Everything a user can get wrong in a table is refused here, before anything is written.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .. import registry
from ..data.table import Table, builtin, fingerprint
from ..errors import InputError, SettingError
from ..format import plural, skipped_rows
from ..settings import DataSettings
from ..tasks.shared.classification import label_index
from ..tasks.shared.columns import (
    BadValue,
    NothingToLearn,
    Row,
    is_numeral,
    match_columns,
    missing_columns,
    parse_columns,
    parse_json_list,
    read_row,
)
from ..tasks.shared.supervised import SupervisedTask
from .split_table import count_shared, group_name, keep_rare_labels, label_notes, split_rows

MAX_GRADES = 10  # whole numbers that are labels; more different ones may be scores
MAX_UNLABELLED = 0.1  # fraction of the rows that may have the label -1 and count as unlabelled


@dataclass(frozen=True)
class TableData:
    """The rows of a table, read, checked and split."""

    name: str  # name of the task
    task: type[SupervisedTask]
    columns: dict[str, str]  # the task's columns -> the table's
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
    task_name: str | None, columns: Sequence[str], column_names: str, row: Row | None = None
) -> tuple[str, dict[str, str]]:
    """The task, and the column of the table for each column of the task.

    Args:
        task_name: as set by the user; inferred from the columns if None.
        columns: of the table.
        column_names: as set by the user, such as text=review,label=stars.
        row: the first one, for the message where no task fits.

    Raises:
        InputError: no task, or several, fit the columns, or one is missing.
        SettingError: an unknown task.
    """
    known = table_tasks()
    # 1. the user has named the task
    if task_name is not None:
        return task_name, _columns_of_task(task_name, columns, column_names)
    if column_names:
        raise SettingError(f"--columns {column_names}: name the task as well, with --task")
    # 2. tasks whose columns the table has, by their most usual names
    fitting = {
        name: mapping
        for name, task in known.items()
        if (mapping := match_columns(task.COLUMNS, columns, named=False)) is not None
        and task.fits(mapping)
    }
    # 3. of two tasks that fit, the one that uses more columns is meant
    best = {
        name: mapping
        for name, mapping in fitting.items()
        if not any(set(mapping.values()) < set(other.values()) for other in fitting.values())
    }
    if len(best) > 1:
        best = {name: mapping for name, mapping in best.items() if not known[name].YIELDS}
    if len(best) == 1:
        name, mapping = next(iter(best.items()))
        first = parse_json_list((row or {}).get(mapping.get("label", "")))
        if name == "classify" and isinstance(first, list):
            return "multilabel", {"text": mapping["text"], "labels": mapping["label"]}
        return name, mapping
    # 4. none, or more than one
    if best:
        raise InputError(
            f"the columns {', '.join(columns[:30])} fit the tasks {' and '.join(best)}: choose one "
            "with --task"
        )
    raise InputError(_no_task(columns, row or {}))


def _columns_of_task(task_name: str, columns: Sequence[str], column_names: str) -> dict[str, str]:
    """The column of the table for each column of a task that the user has named.

    Raises:
        SettingError, InputError: as `infer_task`.
    """
    known = table_tasks()
    task = known.get(task_name)
    if task is None and task_name not in registry.names("scriven.tasks"):
        raise SettingError(f"--task {task_name}: known are {', '.join(known)}")
    if task is None:
        raise SettingError(f"--task {task_name} reads texts, not tables: use {', '.join(known)}")
    given = parse_columns(column_names, task.COLUMNS)
    mapping = match_columns(task.COLUMNS, columns, given)
    if mapping is None or not task.fits(mapping):
        raise InputError(missing_columns(task_name, task.COLUMNS, columns, given))
    return mapping


def _no_task(columns: Sequence[str], row: Row) -> str:
    """What to tell the user of a table that no task can learn from."""
    is_headless = any(is_numeral(name) or name.count(" ") > 2 for name in columns)
    hint = "; a table without a header line needs --data.columns" if is_headless else ""
    if len(columns) == 1 and any(each in columns[0] for each in ",;|"):
        hint = "; a .tsv has tabs between its columns: with other separators, name it .csv"
    return (
        f"no task is known by the columns {', '.join(columns[:30])}{_unsupported(row)}: "
        "tasks learn one label of a text (classify) or of two (entail), several labels "
        "(multilabel), a number (regression), a score of two texts (similarity), tags of words "
        "(tag), a choice, a ranking (rank), an answer out of a text (answer), or texts in answer "
        f"to texts; name one with --task ({', '.join(table_tasks())}), and its columns with "
        f"--columns{hint}"
    )


def _unsupported(row: Row) -> str:
    """What a row without a task seems to hold that no task learns; empty where it is unclear."""
    lists = [cell for value in row.values() if isinstance(cell := parse_json_list(value), list)]
    if any(len(a) == len(b) > 0 for a, b in itertools.combinations(lists, 2)):
        return ", which seem to label single words (--task tag --columns tokens=NAME,tags=NAME)"
    if lists:
        return ", which seem to give a text several labels (--task multilabel)"
    numbers = [name for name, value in row.items() if is_numeral(value)]
    texts = [name for name, value in row.items() if isinstance(value, str) and name not in numbers]
    if len(numbers) == 1 and len(texts) == 2:
        names = f"first={texts[0]},second={texts[1]},score={numbers[0]}"
        return f", which seem to score two texts (--task similarity --columns {names})"
    if len(numbers) == 1 and texts:
        names = f"text={texts[0]},number={numbers[0]}"
        return f", which seem to give a text a number (--task regression --columns {names})"
    return ", which seem to give a text several numbers" if numbers else ""


def load_table(
    sources: Sequence[str],
    data: DataSettings,
    *,
    task: str | None,
    columns: str,
    validation: str | None,
    seed: int,
    group: str | None = None,
) -> TableData:
    """Reads a table, checks every row, and splits it.

    The validation part is the file `validation`, the built-in table's own, or rows drawn by the
    seed; equal rows are always in the same part, and so are those of a group, which is a value of
    the column `group`.

    Raises:
        InputError: names the row and what is wrong with it.
    """
    notes: list[str] = []
    has_own = len(sources) == 1 and builtin(sources[0]) is not None
    if group is not None and (validation is not None or has_own):
        raise SettingError(
            f"--group {group} is for rows that are held out: here the table says which"
        )
    # 1. all rows, or the training part
    groups: list[str] | None = None if group is None else []
    with Table(sources, data) as table:
        _check_group(group, table.columns)
        name, mapping = infer_task(task, table.columns, columns, _first(table))
        task_class = table_tasks()[name]
        rows = read_examples(table, task_class, mapping, data, notes, groups=groups, group=group)
        if not rows:
            raise InputError(f"no row of {table.name} can be used: {notes[-1]}")
    learned = None if task is not None else _scores_task(task_class, rows)
    group_of = None if groups is None else dict(zip(map(id, rows), groups, strict=True))
    rows = _drop_unlabelled(task_class, rows, notes, are_scores=learned is not None)
    if learned is not None:
        notes.append(f"the labels are numbers and learned as scores; --task {name} takes classes")
        name, task_class, mapping = _as_scores(learned, task_class, mapping, rows)
    # 2. the validation part
    if validation is None and has_own:
        with Table(sources, data, "validation") as table:
            held_out = read_examples(table, task_class, mapping, data, notes)
    elif validation is not None:
        with Table([validation], data) as table:
            its_mapping = match_columns(task_class.COLUMNS, table.columns, mapping)
            if its_mapping is None or not task_class.fits(its_mapping):
                raise InputError(missing_columns(name, task_class.COLUMNS, table.columns, mapping))
            labels = None
            if task_class.ANSWER_TYPE == "labels":
                labels = task_class.label_metadata(rows)["labels"]
            held_out = read_examples(table, task_class, its_mapping, data, notes, labels)
    else:
        groups = None if group_of is None else [group_of[id(row)] for row in rows]
        rows, held_out = split_rows(task_class, rows, data.val_fraction, seed, groups)
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
    if task_class.ANSWER_TYPE == "labels":
        notes += label_notes(task_class, rows, held_out)
    digest = hashlib.sha256((fingerprint(rows) + fingerprint(held_out)).encode()).hexdigest()
    return TableData(name, task_class, mapping, rows, held_out, digest, notes)


def _check_group(group: str | None, columns: Sequence[str]) -> None:
    if group is not None and group not in columns:
        raise SettingError(f"--group {group}: the table has the columns {', '.join(columns[:30])}")


def _first(table: Table) -> Row:
    return next((row.values for row in table if not row.skipped), {})


def read_examples(
    table: Table,
    task: type[SupervisedTask],
    mapping: Mapping[str, str],
    data: DataSettings,
    notes: list[str],
    labels: Sequence[str] | None = None,
    check: Callable[[Row], object] | None = None,
    groups: list[str] | None = None,
    group: str | None = None,
) -> list[Row]:
    """The rows with the columns of the task; those that are left out are counted in `notes`.

    Args:
        mapping: the task's columns -> the table's.
        labels: the known ones, where others are to be refused.
        check: called with each row; raises BadValue if it cannot be used.
        groups: filled with the value of the column `group` of each row.

    Raises:
        InputError: a bad row.
    """
    rows, skipped, first, left_out = list[Row](), 0, "", Counter[str]()
    notes += table.notes
    for table_row in table:
        reason = table_row.skipped
        if not reason:
            try:
                row = read_row(task.COLUMNS, mapping, table_row.values)
                task.check_fields(table_row.values)
                task.check_answer(row)
                if labels is not None:
                    _check_label(task, row, labels)
                if check is not None:
                    check(row)
                rows.append(row)
                if groups is not None:
                    groups.append(group_name(table_row.values.get(str(group))))
                continue
            except NothingToLearn as error:
                left_out[str(error)] += 1
                continue
            except BadValue as error:
                reason = table_row.bad(str(error), data).skipped
        skipped, first = skipped + 1, first or reason
    notes += [f"{plural(n, 'row')} left out: {why}" for why, n in left_out.items()]
    if skipped:
        notes.append(skipped_rows(skipped, first))
    return rows


def _check_label(task: type[SupervisedTask], row: Row, labels: Sequence[str]) -> None:
    answer = task.gold_answer(row)
    if answer in task.UNLABELLED and answer not in labels:
        raise NothingToLearn(f"{answer} is no gold label")
    label_index(answer, labels)


def _scores_task(task: type[SupervisedTask], rows: Sequence[Row]) -> str | None:
    """The task that learns what would be labels as numbers on a scale; None where they are labels.

    Fractions are numbers. So are many different whole numbers, unless they count the labels of one
    text from 0 or 1, as tables do that number their classes.
    """
    if task.ANSWER_TYPE != "labels":
        return None
    labels = {str(task.gold_answer(row)) for row in rows} - task.UNLABELLED
    if not labels or not all(map(is_numeral, labels)):
        return None
    is_pair, numbers = len(task.COLUMNS) == 3, {float(label) for label in labels}
    are_scores = len(numbers) > MAX_GRADES
    if not is_pair and min(numbers) in (0, 1):
        are_scores = are_scores and max(numbers) > 2 * len(numbers)
    if not are_scores and not any(number % 1 for number in numbers):
        return None
    return "similarity" if is_pair else "regression"


def _as_scores(
    name: str, task: type[SupervisedTask], mapping: Mapping[str, str], rows: Sequence[Row]
) -> tuple[str, type[SupervisedTask], dict[str, str]]:
    """(name, task, columns) of the task `name`, for which labels are scores; converts the rows."""
    other: type[SupervisedTask] = registry.module("scriven.tasks", name).Task
    names = dict(zip(task.COLUMNS, other.COLUMNS, strict=False))
    for row in rows:
        values = {names[own]: other.COLUMNS[names[own]].read(value) for own, value in row.items()}
        row.clear()
        row.update(values)
    return name, other, {names[own]: column for own, column in mapping.items()}


def _drop_unlabelled(
    task: type[SupervisedTask], rows: list[Row], notes: list[str], are_scores: bool
) -> list[Row]:
    """The rows with a gold label, as NLI sets mark those on which their annotators disagreed."""
    counts = Counter(row.get(task.ANSWER_COLUMN) for row in rows) if task.UNLABELLED else {}
    for mark in sorted(task.UNLABELLED & counts.keys()):
        # a number that many rows have is a label like others, and -1 may be a score
        if mark != "-" and (are_scores or counts[mark] > MAX_UNLABELLED * len(rows)):
            continue
        rows = [row for row in rows if row[task.ANSWER_COLUMN] != mark]
        notes.append(f"{plural(counts[mark], 'row')} left out: {mark} is no gold label")
    return rows
