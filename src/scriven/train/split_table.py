"""Splits the rows of a table into a training and a validation part, and says what the user should
know of the labels in them.

Rows with the same question stay together, and those of one group, where a column names groups: a
model is not scored on the texts of an author or a patient whom it has seen. Labels keep their
proportions.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..data.table import fingerprint
from ..errors import InputError, SettingError
from ..format import plural
from ..tasks.shared.columns import Row
from ..tasks.shared.supervised import SupervisedTask

RARE = 0.01  # fraction of the rows of a label that is told
FEW_ROWS = 5  # validation rows of a label that are told, if there are fewer
MAX_REFINEMENTS = 100  # groups that are added or taken back to come nearer to the fraction
UNBALANCED = 3.0  # rows of the largest label for each one of the smallest, from which on it is told


def split_rows(
    task: type[SupervisedTask],
    rows: list[Row],
    val_fraction: float,
    seed: int,
    groups: Sequence[str] | None = None,
) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows, the same fraction of each label. The part of a row depends on
    its question, its label and the seed alone, so the same question is never in both.

    Args:
        groups: (rows,) names of groups that stay together; a row with an empty name is a group of
            its own. Whole groups approach the fraction of each label as their sizes allow.

    Raises:
        SettingError: a fraction that is not between 0 and 1.
        InputError: all rows are of one group.
    """
    if not 0 < val_fraction < 1:
        raise SettingError(f"--data.val_fraction={val_fraction}: between 0 and 1, as 0.1")
    # 1. rows with the same question stay together
    keys = [fingerprint([task.group_key(row)]) for row in rows]
    if len(set(keys)) < 2:  # one question with many answers
        keys = [fingerprint([row]) for row in rows]
    # 2. questions, or groups of them, until the fraction is reached
    labels = [_label(task, row) for row in rows]
    if groups is None:
        held_out = _draw_questions(keys, labels, val_fraction, seed)
    else:
        keys = _join_groups(keys, groups)
        held_out = _draw_groups(keys, labels, val_fraction, seed)
    parts: tuple[list[Row], list[Row]] = ([], [])
    for key, row in zip(keys, rows, strict=True):
        parts[key in held_out].append(row)
    return parts


def _draw_questions(
    keys: Sequence[str], row_labels: Sequence[str], val_fraction: float, seed: int
) -> set[str]:
    """The questions that are held out."""
    counts = Counter(keys)
    # 1. questions by label, in an order that the seed decides
    by_label: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    for key, label in zip(keys, row_labels, strict=True):  # the first label of those of a question
        labels[key] = min(label, labels.get(key, label))
    for key in sorted(counts, key=lambda key: _rank(key, seed)):
        by_label.setdefault(labels[key], []).append(key)
    # 2. of each label until the fraction is reached
    held_out, target, size = set[str](), 0.0, 0
    for order in sorted(by_label.values(), key=len, reverse=True):
        target += val_fraction * sum(counts[key] for key in order)
        chosen = []
        for key in order[:-1]:  # the last one is left to train on
            if size + counts[key] / 2 <= target:
                chosen.append(key)
                size += counts[key]
        # 3. a label of few questions, but enough to learn from the others, holds out the rarest one
        if not chosen and len(order) > 2:
            chosen = [min(order, key=lambda key: counts[key])]
        held_out.update(chosen)
    if not held_out and len(counts) > 1:
        held_out.add(min(counts, key=lambda key: (counts[key], key)))
    return held_out


def _join_groups(keys: Sequence[str], groups: Sequence[str]) -> list[str]:
    """(rows,) the group of each row; groups that share a question are one.

    Raises:
        InputError: there is one group only.
    """
    # a forest (Galler and Fischer 1964): each question and group points towards its root, the
    # smallest name of its tree, which does not depend on the order of the rows
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = parent[above]  # halves the way for the next time
            name = above
        return name

    for key, group in zip(keys, groups, strict=True):
        if group:
            low, high = sorted((root(f"question {key}"), root(f"group {group}")))
            parent[high] = low
    joined = [root(f"question {key}") for key in keys]
    if len(set(joined)) < 2:
        named = sorted(set(groups))
        shown = f"the group {named[0][:40]!r}" if len(named) == 1 else "groups that share texts"
        raise InputError(
            f"all rows are of {shown}, so none can be held out: name another column with --group, "
            "or a file with --validation"
        )
    return joined


def _draw_groups(
    keys: Sequence[str], row_labels: Sequence[str], val_fraction: float, seed: int
) -> set[str]:
    """The groups that are held out.

    Raises:
        InputError: each group has all rows of some label.
    """
    sizes: dict[str, Counter[str]] = {}  # rows of each label by group
    for key, label in zip(keys, row_labels, strict=True):
        sizes.setdefault(key, Counter())[label] += 1
    # a group with all rows of a label, which could not be learned without it, is for training
    drawn = _GroupDraw(sizes, Counter(row_labels), val_fraction)
    order = sorted(filter(drawn.may_add, sizes), key=lambda group: _rank(group, seed))
    if not order:
        raise InputError(
            "every group has all rows of some label, so none can be held out: name another column "
            "with --group, or a file with --validation"
        )
    # 1. in an order that the seed decides, each group that brings the fractions nearer
    for group in order:
        if drawn.gain(group) > 0 and drawn.may_add(group):
            drawn.toggle(group)
    if not drawn.groups:  # few and large ones
        drawn.toggle(max(order, key=drawn.gain))
    # 2. the one that brings them nearest of all, added or taken back, until none does
    for _ in range(MAX_REFINEMENTS):
        possible = [group for group in order if drawn.may_toggle(group)]
        best = max(possible, key=drawn.gain, default=None)
        if best is None or drawn.gain(best) < 1e-9:
            break
        drawn.toggle(best)
    return drawn.groups


class _GroupDraw:
    """Groups that are held out, and how far the labels' fractions are from the one that is wanted.

    Args:
        sizes: rows of each label by group.
        totals: rows of each label.
    """

    def __init__(
        self, sizes: Mapping[str, Counter[str]], totals: Counter[str], fraction: float
    ) -> None:
        self.sizes, self.totals, self.fraction = sizes, totals, fraction
        self.groups, self._held = set[str](), Counter[str]()

    def may_add(self, group: str) -> bool:
        """Whether rows of each label are left to train on."""
        return all(
            self._held[each] + n < self.totals[each] for each, n in self.sizes[group].items()
        )

    def may_toggle(self, group: str) -> bool:
        """As `may_add`; the last one that is held out stays."""
        return self.may_add(group) if group not in self.groups else len(self.groups) > 1

    def gain(self, group: str) -> float:
        """By how much `toggle` lowers the sum of (held - wanted)² / rows over the labels."""
        sign = -1 if group in self.groups else 1
        return sum(
            -sign * number * (2 * (held - self.fraction * total) + sign * number) / total
            for label, number in self.sizes[group].items()
            for held, total in [(self._held[label], self.totals[label])]
        )

    def toggle(self, group: str) -> None:
        """Holds a group out, or no longer."""
        if group in self.groups:
            self.groups.remove(group)
            self._held.subtract(self.sizes[group])
        else:
            self.groups.add(group)
            self._held.update(self.sizes[group])


def group_name(value: Any) -> str:
    """The name of the group in a cell; empty where the cell is."""
    # a missing number is NaN in some tables
    is_empty = value is None or value != value or not str(value).strip()
    return "" if is_empty else str(value).strip()


def _rank(key: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{key}".encode()).hexdigest()


def _label(task: type[SupervisedTask], row: Row) -> str:
    return str(task.gold_answer(row)) if task.ANSWER_TYPE == "labels" else ""


def keep_rare_labels(
    task: type[SupervisedTask], rows: list[Row], held_out: list[Row], notes: list[str]
) -> tuple[list[Row], list[Row]]:
    """(training, validation) rows, with rows moved so that every label is in the training part: one
    that is held out altogether cannot be learned."""
    labels = {task.gold_answer(row) for row in rows}
    rare = [row for row in held_out if task.gold_answer(row) not in labels]
    if rare:
        notes.append(f"{plural(len(rare), 'row')} with labels of no other row: never held out")
    return [*rows, *rare], [row for row in held_out if task.gold_answer(row) in labels]


def count_shared(task: type[SupervisedTask], rows: Sequence[Row], others: Sequence[Row]) -> int:
    """How many of the other rows have the question of one of the rows."""
    questions = {fingerprint([task.without_answer(row)]) for row in rows}
    return sum(fingerprint([task.without_answer(row)]) in questions for row in others)


def label_notes(
    task: type[SupervisedTask], rows: Sequence[Row], held_out: Sequence[Row]
) -> list[str]:
    """What to know about labels of few rows, of far more rows than others, and of none to score."""
    validation = Counter(_label(task, row) for row in held_out)
    counts = Counter(_label(task, row) for row in rows) + validation
    total, notes = counts.total(), []
    # 1. a guess that is right more often than it seems
    (most, number), (least, fewest) = counts.most_common()[0], counts.most_common()[-1]
    if number >= UNBALANCED * fewest:
        notes.append(
            f"unbalanced labels: {most[:40]!r} has {number / total:.0%} of the rows, "
            f"{least[:40]!r} {fewest / total:.1%}; always answering {most[:40]!r} has an accuracy "
            f"of {number / total:.2f}, so read macro_f1 beside it, which counts labels alike"
        )
    # 2. rare, and much rarer than if all labels had as many rows
    rare = [name for name in counts if counts[name] < min(RARE, 0.5 / len(counts)) * total]
    if rare:
        shown = _listed([f"{name[:40]!r} ({counts[name]:,})" for name in sorted(rare)])
        notes.append(f"labels of under 1 % of the {total:,} rows: {shown}; misspelt?")
    # 3. scores of few rows, and of none
    few = sorted((n, name) for name in counts if 0 < (n := validation[name]) < FEW_ROWS)
    if few:
        shown = _listed([f"{name[:40]!r} {number}" for number, name in few], " labels")
        notes.append(f"few validation rows, so their scores are uncertain: {shown}")
    return notes + missing_labels(task, counts, held_out)


def missing_labels(
    task: type[SupervisedTask], labels: Iterable[str], rows: Sequence[Row]
) -> list[str]:
    """A note on labels without a row to score them by, where there are such."""
    present = {_label(task, row) for row in rows}
    missing = sorted(set(labels) - present)
    if not missing:
        return []
    return [
        f"no row to score has the label {_listed([repr(name[:40]) for name in missing])}: the "
        "scores say nothing of it; macro_f1 counts it as 0 if it is predicted, and else not at all"
    ]


def _listed(shown: Sequence[str], what: str = "") -> str:
    more = f" and {len(shown) - 5:,} more{what}" if len(shown) > 5 else ""
    return ", ".join(shown[:5]) + more
