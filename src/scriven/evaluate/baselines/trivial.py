"""Baselines that only count: one answer for every row, or the one that is most frequent for a word.

Each function below is a baseline as `base.py` describes it; `BASELINES` gives its name and tasks.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ...errors import InputError
from .base import NO_ROWS, Answer, FittedBaseline, Row, reservoir_sample

MAX_ROWS = 100_000
"""Training rows that `length` counts at most, drawn from all of them."""


def fit_majority(rows: Iterable[Row]) -> FittedBaseline:
    """The most frequent label of the training part, whatever the text; of equally frequent ones,
    the one seen first.

    Raises:
        InputError: there are no rows.
    """
    counts = Counter(row["label"] for row in rows)
    if not counts:
        raise InputError(NO_ROWS)
    label = counts.most_common(1)[0][0]
    return FittedBaseline(f"always {label}", lambda rows: [label] * len(rows))


def fit_mean(rows: Iterable[Row]) -> FittedBaseline:
    """The mean number of the training part, whatever the text.

    Raises:
        InputError: there are no rows.
    """
    numbers = [float(row["number"]) for row in rows]
    if not numbers:
        raise InputError(NO_ROWS)
    mean = math.fsum(numbers) / len(numbers)
    return FittedBaseline(f"always {mean:.4g}", lambda rows: [mean] * len(rows))


def fit_label_frequency(rows: Iterable[Row]) -> FittedBaseline:
    """The same labels for every text: the most frequent ones of the training part; of equally
    frequent ones the first in the alphabet come first.

    How many of them is what gives the best micro F1 on the training part, since the labels of more
    than half of the rows alone are often none.

    Raises:
        InputError: there are no rows.
    """
    counts, number = Counter[str](), 0
    for row in rows:
        counts.update(row["labels"])
        number += 1
    if not number:
        raise InputError(NO_ROWS)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    # micro F1 of the first k labels for all rows is 2 · right / (k · rows + all labels)
    best, chosen, right = 0.0, 0, 0
    for k, name in enumerate(names, 1):
        right += counts[name]
        score = 2 * right / (k * number + counts.total())
        if score > best:
            best, chosen = score, k
    always = tuple(sorted(names[:chosen]))
    return FittedBaseline(f"always {', '.join(always)}"[:80], lambda rows: [always] * len(rows))


def fit_copy(rows: Iterable[Row]) -> FittedBaseline:
    """The source as its translation: what shared names, numbers and words are worth."""
    return FittedBaseline("the source itself", lambda rows: [row["source"] for row in rows])


def fit_length(rows: Iterable[Row]) -> FittedBaseline:
    """The longer answer, or the shorter one, as the training rows decide: what a model may learn
    of people's preferences without reading an answer (Singhal et al. 2023).

    Raises:
        InputError: there are no rows.
    """
    sample = [_answer_lengths(row) for row in reservoir_sample(rows, MAX_ROWS)]
    longer = sum(chosen > rejected for chosen, rejected in sample)
    shorter = sum(chosen < rejected for chosen, rejected in sample)
    sign = 1 if longer >= shorter else -1

    def answers(rows: Sequence[Row]) -> list[Answer]:
        pairs = map(_answer_lengths, rows)
        return [int(sign * chosen <= sign * rejected) for chosen, rejected in pairs]

    return FittedBaseline("the longer answer" if sign > 0 else "the shorter answer", answers)


def _answer_lengths(row: Row) -> tuple[int, int]:
    """Characters of the chosen and of the rejected answer."""
    return len(row["chosen"][-1]["content"]), len(row["rejected"][-1]["content"])


def fit_word_tag(rows: Iterable[Row]) -> FittedBaseline:
    """The most frequent tag of each word in the training part, whatever stands around it; of
    equally frequent ones, the one seen first. A word that training did not have gets the most
    frequent tag of the words that it had once.

    Raises:
        InputError: there are no rows.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            counts[word][tag] += 1
    if not counts:
        raise InputError(NO_ROWS)
    best = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    once = Counter(best[word] for word, tags in counts.items() if tags.total() == 1)
    every = sum(counts.values(), Counter[str]())
    unknown = (once or every).most_common(1)[0][0]

    def answers(rows: Sequence[Row]) -> list[Answer]:
        """The tags of each row."""
        return [tuple(best.get(word, unknown) for word in row["tokens"]) for row in rows]

    return FittedBaseline(f"{len(best):,} words, others {unknown}", answers)


BASELINES = {
    "majority": (("classify", "entail"), fit_majority),
    "mean": (("regression",), fit_mean),
    "label_frequency": (("multilabel",), fit_label_frequency),
    "copy": (("translate",), fit_copy),
    "length": (("dpo",), fit_length),
    "word_tag": (("tag",), fit_word_tag),
}
"""Name -> (tasks, fit)."""
