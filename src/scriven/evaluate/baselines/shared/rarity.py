"""How much a shared word says: the rarer the more (TF-IDF; Spärck Jones 1972, Salton 1983)."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from .words import words


def weight(texts: int, found: int) -> float:
    """ln((1 + texts) / (1 + texts with the word)) + 1, so that no word weighs nothing."""
    return math.log((1 + texts) / (1 + found)) + 1.0


@dataclass(frozen=True)
class Rarity:
    """In how many texts each word was found."""

    texts: int
    found: Counter[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Counts words once per text."""
        count, found = 0, Counter[str]()
        for text in texts:
            found.update(set(words(text)))
            count += 1
        return cls(count, found)

    def cosine(self, first: str, second: str) -> float:
        """Between 0 and 1: the cosine of both texts' TF-IDF; 0 where a text has no words."""
        one, other = self._weights(first), self._weights(second)
        both = sum(value * other[word] for word, value in one.items() if word in other)
        size = sum(v * v for v in one.values()) * sum(v * v for v in other.values())
        return both / math.sqrt(size) if size else 0.0

    def _weights(self, text: str) -> dict[str, float]:
        counts = Counter(words(text))
        return {word: n * weight(self.texts, self.found[word]) for word, n in counts.items()}
