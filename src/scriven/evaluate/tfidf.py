"""TF-IDF: a shared word counts the more, the rarer it is (Spärck Jones 1972, Salton 1983)."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ..tasks.shared.word_features import word_tokenize


def idf(documents: int, frequency: int) -> float:
    """Smoothed inverse document frequency, ln((1 + documents) / (1 + frequency)) + 1.

    frequency: documents that contain the word. No word weighs nothing.
    """
    return math.log((1 + documents) / (1 + frequency)) + 1.0


@dataclass(frozen=True)
class TfIdf:
    """Document frequencies of words."""

    documents: int
    frequencies: Counter[str]

    @classmethod
    def fit(cls, texts: Iterable[str]) -> Self:
        """Counts each word once per text."""
        documents, frequencies = 0, Counter[str]()
        for text in texts:
            frequencies.update(set(word_tokenize(text)))
            documents += 1
        return cls(documents, frequencies)

    def cosine_similarity(self, first: str, second: str) -> float:
        """Between 0 and 1; 0 where a text has no words."""
        one, other = self._vector(first), self._vector(second)
        # only words of both texts add to the product
        dot = sum(value * other[word] for word, value in one.items() if word in other)
        size = sum(v * v for v in one.values()) * sum(v * v for v in other.values())
        return dot / math.sqrt(size) if size else 0.0

    def _vector(self, text: str) -> dict[str, float]:
        """Word -> term frequency · inverse document frequency."""
        counts = Counter(word_tokenize(text))
        return {word: n * idf(self.documents, self.frequencies[word]) for word, n in counts.items()}
