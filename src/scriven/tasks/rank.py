"""Ranking: which of several documents suit a query best?

The query with each document is a row, as in multiple choice (GPT-1 paper, section 3.3), and the
linear layer gives each a score. The scores of a query go through a softmax, which learns the
documents' grades divided by their sum: of a pair, a better and a worse one, that is RankNet
(Burges et al. 2005), of a list ListNet (Cao et al. 2007).
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..data.batch import Batch
from ..tokenizers.base import Tokenizer
from .shared.classification import SequenceClassification
from .shared.columns import BadValue, Column, NothingToLearn, Row, number, parse_json_list, text
from .shared.supervised import Example


def _texts(value: Any) -> list[str]:
    """One text or more, also as JSON in a text."""
    value = parse_json_list(value)
    found = value if isinstance(value, list) else [value]
    if not found:
        raise BadValue("holds an empty list")
    return [text(each) for each in found]


def _grades(value: Any) -> list[float]:
    """How well each document suits: numbers from 0, also as JSON in a text."""
    value = parse_json_list(value)
    if not isinstance(value, list):
        raise BadValue("holds no list of numbers")
    grades = [float(each) if isinstance(each, bool) else number(each) for each in value]
    if any(grade < 0 for grade in grades):
        raise BadValue("holds a number below 0")
    return grades


class Rank(SequenceClassification):
    """query, documents, relevance -> scores; or query, positive, negative."""

    COLUMNS: ClassVar = {
        "query": Column(("query", "anchor", "question", "search"), text),
        "documents": Column(
            ("documents", "passages", "candidates", "docs"), _texts, optional=True,
            also=("texts", "choices", "answers"),
        ),
        "relevance": Column(
            ("relevance", "relevances", "grades", "scores", "labels"), _grades, answer=True,
            optional=True,
        ),
        "positive": Column(("positive", "positives", "better"), _texts, optional=True),
        "negative": Column(("negative", "negatives", "worse"), _texts, optional=True),
    }  # fmt: skip
    ANSWER_TYPE = "rankings"
    ANSWER_COLUMN = "relevance"
    loss_unit = "query"

    @classmethod
    def fits(cls, chosen: Iterable[str], answers: bool = True) -> bool:
        """Either documents with their relevance, or better and worse ones."""
        listed = {"documents", "relevance"} if answers else {"documents"}
        found = set(chosen)
        return listed <= found or {"positive", "negative"} <= found

    @classmethod
    def documents(cls, row: Row) -> list[str]:
        """The documents of a query, better ones before worse ones where they are told apart."""
        return row.get("documents") or [*row.get("positive", ()), *row.get("negative", ())]

    @classmethod
    def gold_answer(cls, row: Row) -> tuple[float, ...]:
        """The grade of each document; 1 and 0 for better and worse ones."""
        if "documents" in row:
            return tuple(row.get("relevance", ()))
        better, worse = row.get("positive", ()), row.get("negative", ())
        return (*[1.0] * len(better), *[0.0] * len(worse))

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """A grade for each document, of which some differ."""
        grades, documents = cls.gold_answer(row), cls.documents(row)
        if len(grades) != len(documents):
            raise BadValue(f"has {len(documents)} documents and {len(grades)} grades")
        if len(set(grades)) < 2:
            raise NothingToLearn("all their documents have the same grade")

    @classmethod
    def without_answer(cls, row: Row) -> Row:
        """The query and its documents."""
        return {"query": row["query"], "documents": cls.documents(row)}

    @classmethod
    def group_key(cls, row: Row) -> Row:
        """The query."""
        return {"query": row["query"]}

    @classmethod
    def format_row(cls, row: Row) -> str:
        """Query and documents, one below the other."""
        return "\n".join([row["query"], *(f"- {each}" for each in cls.documents(row))])

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """A row for each document: start, query, delimiter, document, extract."""
        query, rows, cut = tokenizer.encode(row["query"]), [], 0
        for document in self.documents(row):
            ids, lost = self.join_parts([query, tokenizer.encode(document)])
            rows.append(ids)
            cut = max(cut, lost)
        return Example(tuple(rows), label=self.gold_answer(row) or None, cut=cut)

    def pool(self, last: Tensor, batch: Batch) -> Tensor:
        """(E, documents, C) -> (E, documents); -inf for documents that an example lacks."""
        return self.score_each(last, batch)

    def label_tensor(self, examples: Sequence[Example]) -> Tensor:
        """(E, documents) grades divided by their sum, 0 for documents that an example lacks."""
        most = max(len(each.rows) for each in examples)
        grades = torch.zeros(len(examples), most)
        for row, each in zip(grades, examples, strict=True):
            if each.label is not None:
                found = torch.tensor(each.label)
                row[: len(found)] = found / found.sum()
        return grades

    def lm_rows(self, examples: Sequence[Example], rows_each: int) -> Tensor:
        """(B,) bool: the rows of documents above grade 0."""
        return (self.label_tensor(examples) > 0).flatten()

    def loss_and_correct(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy with the grades; right are queries whose best document is first."""
        targets = labels.to(scores.dtype)  # (E, documents)
        if self.criterion is None or not self.training:
            # an empty place has score -inf and target 0
            log_probs = scores.log_softmax(1).masked_fill(targets == 0, 0.0)
            loss = -(targets * log_probs).sum()
        else:
            loss = self.criterion(scores, targets) * len(targets)
        first = scores.detach().argmax(1, keepdim=True)
        return loss, (targets.gather(1, first)[:, 0] == targets.amax(1)).sum()

    def format_answer(
        self, prediction: Sequence[float], row: Row, example: Example
    ) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
        """The best document, and the probability of each, which orders them."""
        documents = self.documents(row)
        shares = tuple(prediction[: len(documents)])
        best = max(range(len(shares)), key=shares.__getitem__)
        return documents[best], shares, shares


Task = Rank
