"""Scores of tags, spans, sets of labels and rankings: equal to seqeval, torchmetrics and
scikit-learn on 1,000 random cases each, and in every resample."""

import random
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import f1_score as label_f1
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score
from sklearn.preprocessing import MultiLabelBinarizer
from torchmetrics.functional.text import squad

from scriven.evaluate.bootstrap import draws
from scriven.evaluate.metrics import labelsets, rankings, spans, tags
from scriven.evaluate.metrics.base import compute_metrics

CASES = 1000
TAGS = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-PER", "B-a-b", "I-a-b"]
WORDS = [
    "The",
    "an",
    "a",
    "king",
    "king's",
    "King.",
    "Lear",
    "of",
    "Britain,",
    "1606",
    "(old)",
    "-",
]
NAMES = ["a", "b", "c", "🎭"]


def scores(kind: str, truth: Any, predicted: Any) -> dict[str, float]:
    return {each.name: each.value for each in compute_metrics(kind, truth, predicted)}


def check_resamples(module: Any, kind: str, truth: list[Any], predicted: list[Any]) -> None:
    """Each metric of a resample is that of its rows."""
    for metric in module.METRICS.values():
        found = metric.statistic(truth, predicted)
        if len(found.counts) != len(truth):  # rows that score equally are counted together
            continue
        drawn = next(draws(np.ones(len(truth), np.int64)))[:20]
        for value, times in zip(found.score(drawn), drawn.astype(int), strict=True):
            places = np.repeat(np.arange(len(truth)), times)
            again = metric.statistic([truth[n] for n in places], [predicted[n] for n in places])
            assert value == pytest.approx(again.value, abs=1e-12)
    assert list(scores(kind, truth, predicted)) == list(module.METRICS)


# ---------------------------------------------------------------- tags


def tagged(draw: random.Random, count: int) -> tuple[list[list[str]], list[list[str]]]:
    truth = [draw.choices(TAGS, k=draw.randint(1, 9)) for _ in range(count)]
    said = [[tag if draw.random() < 0.6 else draw.choice(TAGS) for tag in row] for row in truth]
    return truth, said


def test_entities_are_those_of_seqeval() -> None:
    draw = random.Random(0)
    for _ in range(CASES):
        row = draw.choices(TAGS, k=draw.randint(1, 12))
        assert tags.entities(row) == set(get_entities(row)), row


def test_scores_of_tags_are_those_of_seqeval() -> None:
    draw = random.Random(1)
    for case in range(CASES):
        truth, said = tagged(draw, draw.randint(1, 4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of undefined scores, which are 0 for both
            theirs = [measure(truth, said) for measure in (f1_score, precision_score, recall_score)]
        words = [a == b for one, other in zip(truth, said, strict=True)
                 for a, b in zip(one, other, strict=True)]  # fmt: skip
        found = [tags.METRICS[name].statistic(truth, said).value for name in tags.METRICS]
        assert found == pytest.approx([*theirs, sum(words) / len(words)], abs=1e-12), case
    check_resamples(tags, "tags", *tagged(draw, 12))


def test_counting_an_i_after_o_as_outside_would_be_noticed() -> None:
    strict = [["O", "I-PER"]], [["O", "I-PER"]]
    assert scores("tags", *strict)["f1"] == 1.0
    assert tags.entities(["I-PER", "I-LOC"]) == {("PER", 0, 0), ("LOC", 1, 1)}


# ---------------------------------------------------------------- spans


def official(answers: list[str], said: str) -> tuple[float, float]:
    """Exact match and F1 as the evaluation script of SQuAD 2.0 describes them."""

    def plain(text: str) -> list[str]:
        letters = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return [
            word for word in re.split(r"\s+", letters) if word and word not in ("a", "an", "the")
        ]

    best = (0.0, 0.0)
    for answer in [each for each in answers if plain(each)] or [""]:
        one, other = plain(answer), plain(said)
        same = sum(min(one.count(word), other.count(word)) for word in {*one})
        if not one or not other:
            f1 = float(one == other)
        elif not same:
            f1 = 0.0
        else:
            precision, recall = same / len(other), same / len(one)
            f1 = 2 * precision * recall / (precision + recall)
        best = max(best[0], float(one == other)), max(best[1], f1)
    return best


def answered(draw: random.Random, count: int, none: float) -> tuple[list[list[str]], list[str]]:
    truth, said = [], []
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randint(1, 5))
        right = [" ".join(draw.sample(words, draw.randint(1, len(words))))]
        truth.append([] if draw.random() < none else [*right, " ".join(words)])
        said.append("" if draw.random() < none else " ".join(draw.choices(words, k=len(words))))
    return truth, said


def test_scores_of_spans_are_those_of_the_official_rules() -> None:
    draw = random.Random(2)
    for _ in range(CASES):
        (answers,), (said,) = answered(draw, 1, 0.3)
        found = tuple(
            spans.METRICS[name].statistic([answers], [said]).value for name in spans.METRICS
        )
        assert found == pytest.approx(official(answers, said), abs=1e-12), (answers, said)
    check_resamples(spans, "spans", *answered(draw, 12, 0.3))


def test_scores_of_answered_questions_are_those_of_torchmetrics() -> None:
    """Its scorer is that of SQuAD 1.1, which has no question without an answer."""
    draw = random.Random(3)
    truth, said = answered(draw, 2 * CASES, 0.0)
    keep = [n for n in range(2 * CASES) if all(map(spans.normalise_answer, [*truth[n], said[n]]))]
    assert len(keep) > CASES
    asked = [{"answers": {"text": truth[n], "answer_start": [0] * 2}, "id": str(n)} for n in keep]
    theirs = squad([{"prediction_text": said[n], "id": str(n)} for n in keep], asked)
    found = scores("spans", [truth[n] for n in keep], [said[n] for n in keep])
    assert found["exact_match"] == pytest.approx(float(theirs["exact_match"]) / 100, abs=1e-6)
    assert found["f1"] == pytest.approx(float(theirs["f1"]) / 100, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("_ARTICLES", re.compile(r"\b(a|an)\b")),
        ("_PUNCTUATION", str.maketrans("", "", ".")),
        ("_references", lambda answers: answers[:1] or [""]),
    ],
)
def test_other_rules_would_be_noticed(name: str, bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, name, bug)
    with pytest.raises(AssertionError):
        test_scores_of_spans_are_those_of_the_official_rules()


# ---------------------------------------------------------------- sets of labels


def labelled(draw: random.Random, count: int) -> tuple[list[list[str]], list[list[str]]]:
    truth, said = ([draw.sample(NAMES, draw.randint(0, 3)) for _ in range(count)] for _ in range(2))
    return truth, said


def test_scores_of_sets_of_labels_are_those_of_scikit_learn() -> None:
    draw = random.Random(4)
    for _ in range(CASES):
        truth, said = labelled(draw, draw.randint(1, 6))
        present = sorted({name for row in (*truth, *said) for name in row})
        found = scores_fast(labelsets, truth, said)
        assert found[2] == np.mean([{*a} == {*b} for a, b in zip(truth, said, strict=True)])
        if not present:
            assert found[:2] == [0.0, 0.0]
            continue
        both = MultiLabelBinarizer(classes=present).fit([])
        one, other = both.transform(truth), both.transform(said)
        ways = ("micro", "macro") if len(present) > 1 else ("binary", "binary")
        theirs = [label_f1(one, other, average=way, zero_division=0) for way in ways]
        assert found[:2] == pytest.approx(theirs, abs=1e-12)
    check_resamples(labelsets, "labelsets", *labelled(draw, 12))


def scores_fast(module: Any, truth: Any, predicted: Any) -> list[float]:
    """The metrics without their intervals."""
    return [metric.statistic(truth, predicted).value for metric in module.METRICS.values()]


def test_a_macro_over_labels_that_do_not_occur_would_be_noticed() -> None:
    assert scores("labelsets", [["a"], []], [["a"], []])["macro_f1"] == 1.0
    assert scores("labelsets", [["a"], ["b"]], [["a"], []])["macro_f1"] == 0.5


# ---------------------------------------------------------------- rankings


def ranked(draw: random.Random, levels: int) -> tuple[list[float], list[float]]:
    count = draw.randint(2, 7)
    return (
        [float(draw.randrange(levels)) for _ in range(count)],
        [draw.randrange(4) / 2 for _ in range(count)],
    )


def test_scores_of_rankings_are_those_of_scikit_learn() -> None:
    draw = random.Random(5)
    for _ in range(CASES):
        grades, given = ranked(draw, 4)
        ndcg, mrr, right = scores_fast(rankings, [grades], [given])
        assert ndcg == pytest.approx(ndcg_score([grades], [given]), abs=1e-12)
        ranks = rankdata([-each for each in given], "max")
        best = [rank for rank, grade in zip(ranks, grades, strict=True) if grade > 0]
        assert mrr == pytest.approx(1 / min(best) if best else 0.0)
        tops = [grade for grade, each in zip(grades, given, strict=True) if each == max(given)]
        assert right == float(min(tops) == max(grades))
        # with one relevant document the reciprocal rank is the average precision
        alone = [float(number == 0) for number in range(len(grades))]
        theirs = label_ranking_average_precision_score([alone], [given])
        assert scores_fast(rankings, [alone], [given])[1] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    "bug",
    [
        lambda grades, given: float(
            (2 ** grades[np.argsort(-given)] - 1) @ (1 / np.log2(np.arange(len(given)) + 2))
        ),
        lambda grades, given: float(
            grades[np.argsort(-given, kind="stable")] @ (1 / np.log2(np.arange(len(given)) + 2))
        ),
    ],
)
def test_other_gains_and_lucky_ties_would_be_noticed(
    bug: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rankings, "discounted_gain", bug)
    with pytest.raises(AssertionError):
        test_scores_of_rankings_are_those_of_scikit_learn()


def test_every_kind_has_scores_of_its_own() -> None:
    counts = Counter(
        (kind, name)
        for module in (labelsets, rankings, spans, tags)
        for name, metric in module.METRICS.items()
        for kind in metric.kinds
    )
    assert set(counts.values()) == {1}
