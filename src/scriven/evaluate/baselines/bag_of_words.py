"""Logistic regression on words and pairs of neighbouring words, in whatever order they come.

The L2 penalty is chosen on a held-out tenth of the training rows; the regression is then fitted
to all of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ...tasks.shared.word_features import unigrams_and_bigrams, word_tokenize
from ..logistic_regression import LogisticRegression, SparseMatrix, fit_logistic_regression
from ..tfidf import idf
from .base import Answer, FittedBaseline, Row, reservoir_sample

TASKS = ("classify", "entail")

MAX_ROWS = 200_000  # training rows that are read at most, drawn from all of them
MAX_FEATURES = 300_000  # the features that occur in most rows are kept
BATCH = 4096  # rows that are predicted together

PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
"""L2 penalties that are tried, on half the squared weights against the sum of the losses."""
DEFAULT_PENALTY = 30.0  # where there are too few rows to hold some out
MIN_ROWS = 20  # from this many rows on, a tenth is held out

OVERLAP_STEPS = 10  # steps in which the fraction of common words is seen


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Fits the regression; the same rows in the same order give the same weights.

    Raises:
        InputError: there are no rows.
    """
    # 1. labels and features of the training rows
    sample = reservoir_sample(rows, MAX_ROWS)
    names = tuple(sorted({row["label"] for row in sample}))
    label_id = {label: number for number, label in enumerate(names)}
    features = Features.of(sample)
    labels = torch.tensor([label_id[row["label"]] for row in sample])
    matrix = features.matrix(sample)  # (n, f), sparse
    # 2. the penalty, 3. the regression
    start = LogisticRegression.zero(len(features.columns), len(names))
    penalty = DEFAULT_PENALTY
    if len(sample) >= MIN_ROWS and len(names) > 1:
        penalty, start = _choose_penalty(matrix, labels, start)
    regression = fit_logistic_regression(matrix, labels, penalty, start)

    def answers(rows: Sequence[Row]) -> list[Answer]:
        """The likeliest label of each row."""
        found: list[Answer] = []
        for start in range(0, len(rows), BATCH):
            matrix = features.matrix(rows[start : start + BATCH])
            found += [names[label] for label in regression.logits(matrix).argmax(1).tolist()]
        return found

    note = f"{len(features.columns):,} words and pairs, L2 {penalty:g}"
    return FittedBaseline(note, answers)


def _choose_penalty(
    matrix: SparseMatrix, labels: Tensor, start: LogisticRegression
) -> tuple[float, LogisticRegression]:
    """The penalty with the most held-out rows right, the strongest of equals, and its weights.

    Each fit starts from the one before (a warm start along the regularisation path).
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
    train, test = matrix.select_rows(rest), matrix.select_rows(held_out)
    best, most, chosen = PENALTIES[0], -1, start
    for penalty in PENALTIES:
        start = fit_logistic_regression(train, labels[rest], penalty, start)
        right = int((start.logits(test).argmax(1) == labels[held_out]).sum())
        if right > most:
            best, most, chosen = penalty, right, start
    return best, chosen


@dataclass(frozen=True)
class Features:
    """The features of the training rows, weighted by inverse document frequency."""

    columns: dict[str, int]  # feature -> column
    weights: Tensor  # (f,) float32, inverse document frequencies

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """Counts the features once per row."""
        frequencies = Counter[str]()
        for row in rows:
            frequencies.update(row_features(row))
        common = frequencies.most_common(MAX_FEATURES)
        columns = {feature: number for number, (feature, _) in enumerate(common)}
        return cls(columns, torch.tensor([idf(len(rows), count) for _, count in common]))

    def matrix(self, rows: Sequence[Row]) -> SparseMatrix:
        """(n, f); features that training did not have are left out."""
        columns = self.columns
        present = [[columns[each] for each in row_features(row) if each in columns] for row in rows]
        return SparseMatrix.of(present, self.weights)


def row_features(row: Row) -> list[str]:
    """The features of a row, each once, in the order in which they first occur.

    Of one text its words and pairs of neighbours. Of two texts those of either, which words they
    share, which they do not, and how many.
    """
    if "text" in row and "second" not in row:
        return list(dict.fromkeys(unigrams_and_bigrams(word_tokenize(row["text"]))))
    name = next(name for name in ("premise", "text", "first") if name in row)
    other = "hypothesis" if name == "premise" else "second"
    first, second = (word_tokenize(row[each]) for each in (name, other))
    # a dict and not a set: its order does not change from process to process
    return list(dict.fromkeys(_pair_features(first, second)))


def _pair_features(first: list[str], second: list[str]) -> Iterator[str]:
    for side, words in (("1", first), ("2", second)):
        yield from (f"{side}\t{gram}" for gram in unigrams_and_bigrams(words))
    one, other = dict.fromkeys(first), dict.fromkeys(second)
    yield from (f"{'=' if word in other else '-'}\t{word}" for word in one)
    yield from (f"+\t{word}" for word in other if word not in one)
    common = sum(word in other for word in one)
    for side, size in (("1", len(one)), ("2", len(other))):
        yield f"share {side}\t{OVERLAP_STEPS * common // max(1, size)}"
        yield f"alone {side}\t{min(OVERLAP_STEPS, size - common)}"
