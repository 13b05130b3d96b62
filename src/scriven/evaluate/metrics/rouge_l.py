"""ROUGE-L: how much of two texts is the same words in the same order (Lin 2004, section 3).

Words are runs of letters and digits, in lower case and not stemmed. On ASCII text that is what the
package rouge-score computes, which drops all other letters. In scripts without spaces, as Chinese,
Japanese or Thai, each letter is a word.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ..bootstrap import Statistic, mean
from .base import Metric

SIGNATURE = "f:1|case:lower|stem:no|words:unicode|unspaced:letters"

_UNSPACED = (
    r"\u0e00-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Chinese characters
)
UNSPACED = re.compile(f"[{_UNSPACED}]")
"""A character of a script that puts no spaces between words."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def statistic(references: list[str], written: list[str]) -> Statistic:
    """The mean over rows, from 0 to 100."""
    scores = [100 * rouge_l(a, b) for a, b in zip(references, written, strict=True)]
    return mean(np.array(scores), SIGNATURE)


def rouge_l(reference: str, written: str) -> float:
    """F1 from 0 to 1; 0 where a text has no words, also where neither has."""
    first, second = rouge_words(written), rouge_words(reference)
    length = 0
    for length in lcs_lengths(first, second):  # noqa: B007  the last one is of all words
        pass
    return f1(length, len(first), len(second))


def rouge_words(text: str) -> list[str]:
    """The words of a text as ROUGE counts them."""
    return _WORD.findall(text.lower())


def lcs_lengths(first: Sequence[str], second: Sequence[str]) -> Iterator[int]:
    """Length of the longest common subsequence of each prefix of `first` with all of `second`.

    Yields after each word of `first`. The columns of the usual table are the bits of one integer
    (Hyyrö 2004, Bit-parallel LCS-length computation revisited): a bit falls where the length grows.
    """
    places: dict[str, int] = {}  # word -> the bits of its places in `second`
    for at, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << at
    whole = (1 << len(second)) - 1
    bits = whole  # no bit has fallen: length 0
    for word in first:
        matches = bits & places.get(word, 0)
        bits = ((bits + matches) | (bits - matches)) & whole
        yield len(second) - bits.bit_count()


def f1(length: int, first: int, second: int) -> float:
    """F1 of precision `length / first` and recall `length / second`; 0 where nothing is common."""
    return 2 * length / (first + second) if length else 0.0


METRICS = {"rouge_l": Metric(("texts",), 3, statistic)}
