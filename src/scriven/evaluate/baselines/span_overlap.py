"""The part of a context that stands nearest to the words of the question.

The sentence or line that shares the most words with the question, weighted by rarity (the sliding
window of Richardson et al. 2013); of it, the longest run of words that the question does not have.
Where most questions of the training part have no answer, there is none.
"""

import re
from collections.abc import Iterable, Sequence

from ...tasks.shared.word_features import word_tokenize
from ..tfidf import TfIdf, idf
from .base import Answer, FittedBaseline, Row, reservoir_sample

TASKS = ("answer",)

MAX_ROWS = 20_000  # training rows that are counted at most, drawn from all of them
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_WORD = re.compile(r"\w+")


def fit(rows: Iterable[Row]) -> FittedBaseline:
    """Counts document frequencies of sentences, and the longest usual answer.

    Raises:
        InputError: there are no rows.
    """
    sample = reservoir_sample(rows, MAX_ROWS)
    contexts = dict.fromkeys(row["context"] for row in sample)
    tfidf = TfIdf.fit(each for context in contexts for each in _SENTENCE.findall(context))
    lengths = [len(_WORD.findall(row["answers"][0]["text"])) for row in sample if row["answers"]]
    if 2 * len(lengths) <= len(sample):
        return FittedBaseline("never an answer", lambda rows: [""] * len(rows))
    # nine of ten answers are no longer
    longest = max(1, sorted(lengths)[int(0.9 * (len(lengths) - 1))])

    def answers(rows: Sequence[Row]) -> list[Answer]:
        """The span of each row."""
        return [_span(tfidf, row["context"], row["question"], longest) for row in rows]

    return FittedBaseline(f"at most {longest} words of the sentence nearest in words", answers)


def _span(tfidf: TfIdf, context: str, question: str, longest: int) -> str:
    asked = set(word_tokenize(question))

    def nearness(sentence: str) -> float:
        shared = asked & set(word_tokenize(sentence))
        return sum(idf(tfidf.documents, tfidf.frequencies[word]) for word in shared)

    sentence: str = max(_SENTENCE.findall(context) or [context], key=nearness)
    # runs of words that the question lacks, each (first character, one past the last, words)
    runs, begins = [(0, 0, 0)], True
    for match in _WORD.finditer(sentence):
        if match.group().lower() in asked:
            begins = True
            continue
        start, _, words = (match.start(), 0, 0) if begins else runs.pop()
        begins = words + 1 >= longest
        runs.append((start, match.end(), words + 1))
    start, end, _ = max(runs, key=lambda run: run[2])
    return sentence[start:end]
