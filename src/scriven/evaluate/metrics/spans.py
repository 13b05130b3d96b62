"""Metrics of answers out of a context: exact match and F1 by the rules of SQuAD (Rajpurkar et al.
2016, section 6.1; 2018, section 4).

Case, punctuation, the articles a, an and the, and spaces do not count. F1 is that of the words of
an answer; of several right answers the nearest counts. A question without an answer is right with
an empty text only. A right answer of nothing but what does not count is left out.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..bootstrap import Statistic, mean, proportion
from .base import Metric

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(answer: str) -> str:
    """What of an answer counts."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def word_f1(right: str, said: str) -> float:
    """F1 of the words of two answers; 1 where both are empty."""
    first, second = normalise_answer(right).split(), normalise_answer(said).split()
    if not first or not second:
        return float(first == second)
    same = (Counter(first) & Counter(second)).total()
    return 2 * same / (len(first) + len(second))


def _references(answers: Sequence[str]) -> Sequence[str]:
    return [answer for answer in answers if normalise_answer(answer)] or [""]


def exact_match(truth: Sequence[Sequence[str]], predicted: Sequence[str]) -> Statistic:
    """The fraction of answers that equal one of the right ones."""
    same = [
        normalise_answer(said) in map(normalise_answer, _references(answers))
        for answers, said in zip(truth, predicted, strict=True)
    ]
    return proportion(np.array(same))


def f1(truth: Sequence[Sequence[str]], predicted: Sequence[str]) -> Statistic:
    """The mean F1 of the answers' words."""
    scores = [
        max(word_f1(right, said) for right in _references(answers))
        for answers, said in zip(truth, predicted, strict=True)
    ]
    return mean(np.array(scores))


METRICS = {
    "exact_match": Metric(("spans",), 1, exact_match),
    "f1": Metric(("spans",), 2, f1),
}
