"""ROUGE-L: how much of two texts is the same words in the same order (Lin 2004, section 3).

Words are runs of letters and digits, in lower case and not stemmed. On ASCII text that is what the
package rouge-score computes; it drops all other letters, these words keep them. A text written
without spaces is one word, so it is better scored by chrF.
"""

import re
from collections.abc import Iterator, Sequence

SIGNATURE = "f:1|case:lower|stem:no|words:unicode"

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text as ROUGE sees them."""
    return _WORD.findall(text.lower())


def common(first: Sequence[str], second: Sequence[str]) -> Iterator[int]:
    """Length of the longest common subsequence of each beginning of `first` with all of `second`.

    Yields after each word of `first`. The columns of the usual table are the bits of one integer
    (Hyyrö 2004, Bit-parallel LCS-length computation revisited): a bit falls where the length grows.
    """
    places: dict[str, int] = {}
    for at, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << at
    whole = (1 << len(second)) - 1
    bits = whole
    for word in first:
        here = bits & places.get(word, 0)
        bits = ((bits + here) | (bits - here)) & whole
        yield len(second) - bits.bit_count()


def balance(length: int, first: int, second: int) -> float:
    """F1 of precision `length / first` and recall `length / second`; 0 where nothing is common."""
    return 2 * length / (first + second) if length else 0.0


def rouge_l(reference: str, written: str) -> float:
    """F1 between 0 and 1; 0 where a text has no words, also where neither has."""
    first, second = words(written), words(reference)
    length = 0
    for length in common(first, second):  # noqa: B007  the last one is of all words
        pass
    return balance(length, len(first), len(second))
