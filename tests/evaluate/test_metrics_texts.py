"""Scores of texts against sacrebleu, rouge-score and the textbook's table."""

import random
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from scriven.errors import InputError, MissingExtra
from scriven.evaluate.bootstrap import ScoreWithCI, draws
from scriven.evaluate.metrics.base import compute_metrics
from scriven.evaluate.metrics.rouge_l import lcs_lengths, rouge_l, rouge_words

SOME = "the a cat dog Dog's sat, on mat in under; over BIG small red 7 old-man woman ran fast ."
WORDS = SOME.split()


def score_texts(references: Any, written: Any) -> list[ScoreWithCI]:
    return compute_metrics("texts", references, written)


def texts(seed: int, count: int, longest: int = 12) -> list[str]:
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(WORDS, k=chosen.randint(1, longest))) for _ in range(count)]


def test_bleu_and_chrf_equal_those_of_sacrebleu_with_its_signature() -> None:
    references, written = texts(1, 80), texts(2, 80)
    bleu, chrf, _, _ = score_texts(references, written)
    for figure, metric in ((bleu, BLEU()), (chrf, CHRF())):
        assert figure.value == pytest.approx(metric.corpus_score(written, [references]).score)
        assert figure.signature == str(metric.get_signature())
        assert figure.low < figure.value < figure.high
    assert bleu.signature is not None and "tok:13a" in bleu.signature


def test_bounds_are_those_of_sacrebleu_on_the_same_resampled_texts() -> None:
    references, written = texts(3, 12), texts(4, 12)
    drawn = np.concatenate(list(draws(np.ones(12, np.int64)))).astype(int)
    scores = []
    for numbers in drawn:
        at = np.repeat(np.arange(12), numbers)
        again = [written[i] for i in at], [[references[i] for i in at]]
        scores.append(BLEU(force=True).corpus_score(*again).score)
    bleu = score_texts(references, written)[0]
    assert (bleu.low, bleu.high) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])))


def by_table(first: Sequence[str], second: Sequence[str], *, planted_bug: bool = False) -> int:
    """The longest common subsequence by the table of all beginnings."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            skipped = 0 if planted_bug else max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else skipped
    return table[-1][-1]


def test_every_beginning_has_the_length_of_the_table() -> None:
    for seed in range(40):
        first, second = (rouge_words(text) for text in texts(seed, 2, 90))
        lengths = list(lcs_lengths(first, second))
        places = range(0, len(first), 7)
        assert [lengths[at] for at in places] == [
            by_table(first[: at + 1], second) for at in places
        ]


def test_runs_in_place_of_subsequences_are_noticed() -> None:
    first, second = (rouge_words(text) for text in texts(5, 2, 90))
    assert list(lcs_lengths(first, second))[-1] > by_table(first, second, planted_bug=True)


def test_rouge_l_equals_that_of_rouge_score() -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    references, written = [*texts(6, 100), "...", "", "x"], [*texts(7, 100), "a", "a", ""]
    for reference, other in zip(references, written, strict=True):
        expected = scorer.score(reference, other)["rougeL"].fmeasure
        assert rouge_l(reference, other) == pytest.approx(expected, abs=1e-12)
    mean = np.mean([100 * rouge_l(a, b) for a, b in zip(references, written, strict=True)])
    assert score_texts(references, written)[2].value == pytest.approx(mean)


def test_letters_of_all_alphabets_make_words() -> None:
    assert rouge_words("Être, ou_ne pas Être: Быть 9") == [
        "être",
        "ou",
        "ne",
        "pas",
        "être",
        "быть",
        "9",
    ]
    assert rouge_l("Быть или не быть", "быть не быть") == pytest.approx(6 / 7)


def test_a_thousand_headlines_take_less_than_a_second() -> None:
    references, written = texts(8, 1000), texts(9, 1000)
    start = time.process_time()
    for reference, other in zip(references, written, strict=True):
        rouge_l(reference, other)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("reference", "written", "same"), [("", "", 1.0), ("a b", "", 0.0), ("", "a b", 0.0)]
)
def test_an_empty_text_scores_nothing(reference: str, written: str, same: float) -> None:
    values = [each.value for each in score_texts([reference], [written])]
    assert values == [0.0, 0.0, 0.0, same]


def test_a_text_repeated_scores_everything() -> None:
    line = "it was a dark and stormy night"
    values = [each.value for each in score_texts([line, line], [line, f" {line}\n"])]
    assert values == pytest.approx([100.0, 100.0, 100.0, 1.0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=4))
def test_any_texts_give_sound_scores(pairs: list[tuple[str, str]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score_texts([a for a, _ in pairs], [b for _, b in pairs])
    for each in found:
        assert 0 <= each.low <= each.value <= each.high <= 100 + 1e-9


def test_no_rows_and_no_sacrebleu_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no rows to score"):
        score_texts([], [])
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scriven\[eval\]'"):
        score_texts(["a"], ["a"])


@pytest.mark.parametrize(
    ("tokenization", "reference", "written"),
    [
        ("zh", "我们今天去公园，然后回家", "我们今天去商店，然后回家"),
        ("char", "วันนี้เราไปสวน", "วันนี้เขาไปสวน"),
        ("13a", "오늘 우리는 공원에 가요", "오늘 우리는 공원에 왔어요"),
    ],
)  # fmt: skip
def test_bleu_splits_text_by_the_script_of_the_references(
    tokenization: str, reference: str, written: str
) -> None:
    made = {each.name: each for each in score_texts([reference], [written])}
    truth = BLEU(tokenize=tokenization, force=True).corpus_score([written], [[reference]]).score
    assert made["bleu"].value == pytest.approx(truth)
    assert truth > 5
    assert f"tok:{tokenization}" in str(made["bleu"].signature)


def test_letters_of_scripts_without_spaces_are_words() -> None:
    assert rouge_words("GPT-4模型 ok") == ["gpt", "4", "模", "型", "ok"]
