"""Each baseline against brute force or scikit-learn, on rows made here."""

import json
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from scriven.errors import InputError
from scriven.evaluate.baselines import base
from scriven.evaluate.baselines.bag_of_words import Features, row_features
from scriven.evaluate.baselines.base import baselines_for, reservoir_sample
from scriven.evaluate.baselines.ridge import _double, fit_ridge
from scriven.evaluate.logistic_regression import (
    LogisticRegression,
    SparseMatrix,
    fit_logistic_regression,
)
from scriven.evaluate.metrics.rouge_l import rouge_l
from scriven.evaluate.tfidf import TfIdf
from scriven.tasks.shared.word_features import MAX_WORDS, word_tokenize

LINE = "it was a dark and stormy night the rain fell in torrents except when"
PLAIN = LINE.split()


def text(chosen: random.Random, *special: str) -> str:
    found = [*chosen.choices(PLAIN, k=8), *special]
    chosen.shuffle(found)
    return " ".join(found)


def reviews(seed: int, count: int) -> list[dict[str, Any]]:
    """The label hangs on one word of nine."""
    chosen = random.Random(seed)
    kinds = {"good 🙂": "lovely", "bad": "awful", "so so": "fine"}
    labels = chosen.choices(list(kinds), [5, 4, 2], k=count)
    return [{"text": text(chosen, kinds[label]), "label": label} for label in labels]


def pairs(seed: int, count: int) -> list[dict[str, Any]]:
    """Entailed are those hypotheses whose words are all in the premise."""
    chosen, found = random.Random(seed), []
    for _ in range(count):
        premise = text(chosen)
        hypothesis = " ".join(chosen.sample(premise.split(), 4))
        entails = chosen.random() < 0.5
        if not entails:
            hypothesis += " " + chosen.choice(["moon", "sea", "cow"])
        label = "yes" if entails else "no"
        found.append({"premise": premise, "hypothesis": hypothesis, "label": label})
    return found


def right(name: str, train: list[dict[str, Any]], test: list[dict[str, Any]], key: str) -> float:
    predict = base.fit(name, train)
    found = predict({k: v for k, v in row.items() if k != key} for row in test)
    return float(np.mean([a == row[key] for a, row in zip(found, test, strict=True)]))


def test_every_task_with_a_score_has_a_baseline() -> None:
    assert baselines_for("classify") == baselines_for("entail") == ["bag_of_words", "majority"]
    assert baselines_for("similarity") == baselines_for("choice") == ["overlap"]
    assert baselines_for("regression") == ["mean", "ridge"]
    assert baselines_for("multilabel") == ["label_frequency"]
    assert baselines_for("tag") == ["word_tag"]
    assert baselines_for("answer") == ["span_overlap"]
    assert baselines_for("rank") == ["overlap"]
    assert baselines_for("translate") == ["copy"]
    assert baselines_for("summarize") == ["lead"]
    assert baselines_for("language") == []


@pytest.mark.parametrize("name", sorted(base.known_baselines().keys() - {"copy"}))
def test_no_training_rows_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="no training rows"):
        base.fit(name, [])


def test_the_most_frequent_labels_are_as_many_as_suit_the_training_part() -> None:
    rows = [{"text": "", "labels": each} for each in (["a"], ["a", "b"], ["a", "b"], ["c"], [])]
    assert base.fit("label_frequency", rows)(rows[:1]) == [("a", "b")]

    def micro(names: set[str]) -> float:
        right = sum(len(names & {*row["labels"]}) for row in rows)
        return 2 * right / (len(names) * len(rows) + sum(len(row["labels"]) for row in rows))

    assert micro({"a", "b"}) == max(map(micro, ({"a"}, {"a", "b"}, {"a", "b", "c"})))


def test_each_word_gets_its_most_frequent_tag() -> None:
    rows = [{"tokens": [*"aab"], "tags": ["X", "X", "O"]}, {"tokens": [*"ac"], "tags": ["O", "Y"]}]
    predict = base.fit("word_tag", rows)
    assert predict([{"tokens": [*"abcd"]}]) == [("X", "O", "Y", "O")], "of once seen words O first"


def test_an_answer_stands_beside_the_words_of_the_question() -> None:
    context = "It rained. ROMEO: I dreamt a dream tonight. The sun rose late."
    question = 'Who says "I dreamt a dream tonight"?'
    train = [{"context": context, "question": question, "answers": [{"text": "ROMEO"}]}]
    asked = [{"context": context, "question": question}]
    assert base.fit("span_overlap", train)(asked) == ["ROMEO"]
    none = [{**train[0], "answers": []}] * 2
    assert base.fit("span_overlap", [*train, *none])(asked) == [""]


def test_a_span_is_no_longer_than_nine_of_ten_answers() -> None:
    context, question = "The king of France was old and bald.", "Was the king old?"

    def span(*answers: str) -> Any:
        row = {"context": context, "question": question}
        train = [{**row, "answers": [{"text": answer}]} for answer in answers]
        return base.fit("span_overlap", train)([row])[0]

    assert span("France") == "of"
    assert span("of France") == "of France"
    assert span(*["France"] * 10, "The king of France") == "of"


def test_majority_is_the_most_frequent_label() -> None:
    rows = [{"text": "", "label": label} for label in ("b", "a", "a", "b", "c")]
    predict = base.fit("majority", iter(rows))
    assert predict(rows[:2]) == ["b", "b"], "of equals the first"
    assert predict.note == "always b"


@pytest.mark.parametrize("make", [reviews, pairs])
def test_a_bag_of_words_finds_the_words_that_matter(make: Any) -> None:
    train, test = make(1, 400), make(2, 100)
    assert right("bag_of_words", train, test, "label") > 0.95
    assert right("majority", train, test, "label") < 0.7


def test_labels_that_hang_on_nothing_are_not_learnt() -> None:
    train, test = reviews(3, 300), reviews(4, 300)
    chosen = random.Random(0)
    for row in (*train, *test):
        row["label"] = chosen.choice("ab")
    assert right("bag_of_words", train, test, "label") < 0.6


def test_wrong_labels_are_not_learnt_by_heart() -> None:
    """A penalty chosen on the rows that the regression is fitted to would be too weak."""
    train, test = reviews(10, 400), reviews(11, 300)
    chosen = random.Random(0)
    for row in chosen.sample(train, 120):
        row["label"] = chosen.choice(["good 🙂", "bad", "so so"])
    assert right("bag_of_words", train, test, "label") > 0.95


def test_the_words_of_a_pair_alone_would_not_do() -> None:
    """The planted bug: a bag that does not look at what the two texts share."""
    train, test = pairs(5, 300), pairs(6, 100)
    for row in (*train, *test):  # a word of the premise's own kind in place of the strange one
        if row["label"] == "no":
            other = [word for word in PLAIN if word not in row["premise"].split()]
            row["hypothesis"] = row["hypothesis"].rsplit(" ", 1)[0] + " " + other[0]
    alone = [
        [{"text": row["hypothesis"], "label": row["label"]} for row in rows]
        for rows in (train, test)
    ]
    found = right("bag_of_words", train, test, "label")
    assert found > 0.95
    assert right("bag_of_words", alone[0], alone[1], "label") < found - 0.1


def test_ridge_is_that_of_scikit_learn() -> None:
    chosen, rows = random.Random(0), []
    for _ in range(200):
        marks = chosen.choices(["lovely", "fine", "awful"], k=2)
        number = sum({"lovely": 2.0, "fine": 1.0, "awful": -1.5}[word] for word in marks)
        rows.append({"text": text(chosen, *marks), "number": number})
    features = Features.of(rows)
    matrix = _double(features.matrix(rows))
    dense = matrix.matmul(torch.eye(matrix.width, dtype=torch.float64)).numpy()
    numbers = torch.tensor([row["number"] for row in rows], dtype=torch.float64)
    for penalty in (1.0, 100.0):
        found = fit_ridge(matrix, numbers, penalty)
        theirs = Ridge(penalty, solver="cholesky").fit(dense, numbers.numpy())
        assert found.weight.tolist() == pytest.approx(theirs.coef_.tolist(), abs=1e-6)
        assert float(found.bias) == pytest.approx(theirs.intercept_, abs=1e-6)
    predict, mean = base.fit("ridge", rows), base.fit("mean", rows)
    answers = np.array([predict(rows), mean(rows), numbers.tolist()])
    errors = ((answers[:2] - answers[2]) ** 2).mean(1)
    assert errors[0] < 0.2 * errors[1] == pytest.approx(0.2 * answers[2].var())


def test_the_regression_is_that_of_scikit_learn() -> None:
    rows = reviews(7, 120)
    features = Features.of(rows)
    matrix = features.matrix(rows)
    exact = SparseMatrix(matrix.row_starts, matrix.columns, matrix.values.double(), matrix.width)
    answers = torch.tensor([["good 🙂", "bad", "so so"].index(row["label"]) for row in rows])
    start = LogisticRegression(
        torch.zeros(len(features.columns), 3).double(), torch.zeros(3).double()
    )
    found = fit_logistic_regression(exact, answers, 4.0, start, tolerance=1e-9)
    dense = exact.matmul(torch.eye(len(features.columns)).double()).numpy()
    reference = Reference(C=1 / 4.0, tol=1e-9, max_iter=2000).fit(dense, answers.numpy())
    assert found.weight.T.numpy() == pytest.approx(reference.coef_, abs=1e-5)
    likely = found.logits(exact).softmax(1).numpy()
    assert likely == pytest.approx(reference.predict_proba(dense), abs=1e-6)


def test_a_sparse_matrix_is_what_it_stands_for() -> None:
    rows = [[2, 0], [], [1, 2, 3], [3]]
    weights = torch.tensor([0.5, 2.0, 3.0, 7.0, 1.0])
    matrix = SparseMatrix.of(rows, weights)
    dense = torch.zeros(4, 5)
    for at, columns in enumerate(rows):
        dense[at, columns] = weights[columns]
    assert matrix.matmul(torch.eye(5)).equal(dense)
    assert matrix.transpose().matmul(torch.eye(4)).equal(dense.T)
    some = torch.tensor([3, 1, 0])
    assert matrix.select_rows(some).matmul(torch.eye(5)).equal(dense[some])


def test_a_pair_is_seen_by_its_words_and_by_what_becomes_of_them() -> None:
    assert row_features({"text": "It was it"}) == ["it", "was", "it was", "was it"]
    found = row_features({"premise": "a dog runs", "hypothesis": "a cat runs runs"})
    assert [each.replace("\t", " ") for each in found] == [
        "1 a", "1 dog", "1 runs", "1 a dog", "1 dog runs",
        "2 a", "2 cat", "2 runs", "2 a cat", "2 cat runs", "2 runs runs",
        "= a", "- dog", "= runs", "+ cat",
        "share 1 6", "alone 1 1", "share 2 6", "alone 2 1",
    ]  # fmt: skip
    assert row_features({"first": "", "second": "x"})[-1] == "alone 2\t1"


def test_features_come_in_the_same_order_in_another_process() -> None:
    """Sets of strings do not; the weights would then differ in their last places."""
    rows = [*reviews(1, 9), *pairs(1, 9)]
    code = (
        "import json, sys; from scriven.evaluate.baselines.bag_of_words import Features\n"
        "print(json.dumps(list(Features.of(json.loads(sys.argv[1])).columns)))"
    )
    other = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(rows)],
        env=other, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == list(Features.of(rows).columns)


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "one", "label": "a"}],  # one row
        [{"text": "one", "label": "a"}, {"text": "two", "label": "a"}],  # one class
        [{"text": "", "label": "a"}, {"text": "", "label": "b"}] * 15,  # no words at all
        [{"text": "x " * 5000, "label": "a"}, {"text": "y", "label": "b"}],
    ],
)
def test_a_bag_of_little_answers_with_a_known_label(rows: list[dict[str, str]]) -> None:
    predict = base.fit("bag_of_words", rows)
    assert set(predict([{"text": "two"}, {"text": ""}])) <= {"a", "b"}
    assert predict([]) == []


def test_cosines_are_those_of_scikit_learn() -> None:
    chosen = random.Random(8)
    found = [text(chosen) for _ in range(30)]
    tfidf = TfIdf.fit(found)
    theirs = cosine_similarity(TfidfVectorizer(analyzer=word_tokenize).fit_transform(found))
    for i in range(30):
        assert tfidf.cosine_similarity(found[i], found[0]) == pytest.approx(theirs[i, 0])
    assert tfidf.cosine_similarity("", found[0]) == 0.0


def test_overlap_lies_on_the_scale_of_the_scores() -> None:
    """The line from cosines to scores is that of least squares."""
    chosen = random.Random(9)
    rows = [
        {"first": text(chosen), "second": text(chosen), "score": chosen.uniform(1, 5)}
        for _ in range(50)
    ]
    tfidf = TfIdf.fit(each for row in rows for each in (row["first"], row["second"]))
    cosines = [tfidf.cosine_similarity(row["first"], row["second"]) for row in rows]
    slope, start = np.polyfit(cosines, [row["score"] for row in rows], 1)
    found = base.fit("overlap", rows)(rows)
    assert found == pytest.approx([start + slope * each for each in cosines])


def test_overlap_without_a_spread_gives_the_mean_score() -> None:
    rows = [{"first": "a", "second": "b", "score": score} for score in (1, 2, 6)]
    assert base.fit("overlap", rows)(rows[:1]) == [3.0]


def test_overlap_takes_the_answer_with_the_rare_word() -> None:
    often = [{"context": "the sea of the land", "choices": ["of the", "the"], "answer": 0}] * 5
    choices = ["of the", "Norway", "nothing else", ""]
    rows = [{"context": "the king of Norway", "choices": choices, "answer": 1}]
    assert base.fit("overlap", [*often, *rows])(rows) == [1]
    assert base.fit("overlap", rows)([{"context": "", "choices": ["a", "b"]}]) == [0]


def test_copy_is_the_source() -> None:
    rows = [{"source": "ein Hund", "target": "a dog"}]
    assert base.fit("copy", rows)([{"source": " zwei\n"}]) == [" zwei\n"]


def leads(seed: int, count: int) -> list[dict[str, str]]:
    """Targets that share the words from the third to the fifth of their source."""
    chosen, rows = random.Random(seed), []
    for _ in range(count):
        found = [*chosen.choices(PLAIN, k=9), "…", "the-end."]
        rows.append({"source": " ".join(found), "target": " ".join(["New:", *found[2:5]])})
    return rows


def mean_rouge(rows: list[dict[str, str]], length: int) -> float:
    written = [" ".join(row["source"].split()[:length]) for row in rows]
    return float(np.mean([rouge_l(row["target"], w) for row, w in zip(rows, written, strict=True)]))


def test_lead_has_the_length_of_the_highest_rouge() -> None:
    rows = [*leads(10, 40), {"source": "", "target": "x"}, {"source": "x", "target": ""}]
    predict = base.fit("lead", rows)
    length = max(range(1, 20), key=lambda length: mean_rouge(rows, length))
    assert predict.note == f"the first {length} words"
    assert predict([{"source": "a b  c\nd e f g"}]) == [" ".join("abcdefg"[:length])]
    assert mean_rouge(rows, length) > mean_rouge(rows, length + 4) + 0.01


def test_words_are_lower_case_with_their_apostrophes_and_marks() -> None:
    assert word_tokenize("Don't stop, ÉTÉ!") == ["don't", "stop", ",", "été", "!"]
    assert word_tokenize("我爱GPT模型") == ["我", "爱", "gpt", "模", "型"]
    assert len(word_tokenize("word " * (2 * MAX_WORDS))) == MAX_WORDS


def test_a_sample_takes_every_row_as_often() -> None:
    assert reservoir_sample(iter(range(5)), 5) == [0, 1, 2, 3, 4]
    found = reservoir_sample(range(10_000), 1000)
    assert len(set(found)) == 1000
    assert np.mean(found) == pytest.approx(5000, abs=300)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.sampled_from("ab")), min_size=1, max_size=25))
def test_any_texts_can_be_fitted(found: list[tuple[str, str]]) -> None:
    rows: list[dict[str, Any]] = [
        {"text": a, "label": b, "premise": a, "hypothesis": b, "first": a, "second": b,
         "score": len(a), "number": len(a), "source": a, "target": b, "labels": [b],
         "tokens": a.split() or ["x"], "tags": (a.split() or ["x"]), "context": a + b,
         "question": a, "answers": [{"text": b, "start": None}],
         "chosen": [{"content": a}], "rejected": [{"content": b}]}
        for a, b in found
    ]  # fmt: skip
    for name in base.known_baselines():
        assert len(base.fit(name, rows)(rows)) == len(rows)
    two = [{k: row[k] for k in ("premise", "hypothesis", "label")} for row in rows]
    assert len(base.fit("bag_of_words", two)(two)) == len(two)
