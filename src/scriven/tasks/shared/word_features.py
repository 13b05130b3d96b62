"""Words of one or two texts as features of a linear model, hashed into a table of fixed size.

A text gives its words, its pairs of neighbouring words and the sequences of four characters in its
words; two texts give those words and pairs of either, and how much they share. The tokenizer has no
part in it, so a model of characters sees words as well. A feature is the row of a table that its
hash names (feature hashing: Weinberger et al. 2009; Joulin et al. 2017, section 2), so no
vocabulary needs to be kept.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from .supervised import MAX_BAG_ROWS

MAX_WORDS = 2000  # only the first words of a text are counted
NGRAM = 4  # characters of a sequence; the ends of a word count as one each
MAX_SPELLED = 500  # only the first words of a text give sequences of characters
STEPS = 20  # steps in which the share of common features is seen

BIAS, SHARES, HASHED = 1, 2, 256
"""Rows of the table, after that of padding: what every text has; from here on how much two texts
share; from here on words and what else is hashed."""
MAX_NUMBERS = 1 << 22  # of a table: rows times columns
MAX_OUTPUTS = 1000  # columns of a table; more labels leave too few rows for words

_CJK = "\u3040-\u30ff\u3400-\u9fff"
"""Kana and Chinese characters, which are written without spaces: each is a word."""
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[\w'])+|[^\w\s]")


def word_tokenize(text: str) -> list[str]:
    """At most `MAX_WORDS` lower-case words; an apostrophe belongs to its word, other punctuation
    marks are words."""
    words = []
    for match in _WORD.finditer(text.lower()):
        words.append(match.group())
        if len(words) == MAX_WORDS:
            break
    return words


def table_rows(outputs: int) -> int:
    """Rows of a table with so many columns, a power of two, so that it takes 16 MB at most; 0 where
    there are too many columns."""
    if outputs > MAX_OUTPUTS:
        return 0
    return int(min(MAX_BAG_ROWS, 1 << (MAX_NUMBERS // outputs).bit_length() - 1))


def feature_rows(texts: Sequence[str], rows: int) -> list[int]:
    """The rows that one or two texts have in a table of so many, each once, `BIAS` first."""
    words = [word_tokenize(text) for text in texts]
    features = text_features(words[0]) if len(words) == 1 else pair_features(*words)
    shared = shared_rows(*words) if len(words) == 2 else ()
    codes = (zlib.crc32(each.encode("utf-8", "surrogatepass")) for each in features)
    hashed = (HASHED + code % (rows - HASHED) for code in codes)
    return list(dict.fromkeys([BIAS, *shared, *hashed]))


def text_features(words: list[str]) -> Iterator[str]:
    """Words, pairs of neighbours, and sequences of characters, as often as they occur."""
    yield from unigrams_and_bigrams(words)
    for word in words[:MAX_SPELLED]:
        yield from _spelling(word)


def pair_features(first: list[str], second: list[str]) -> Iterator[str]:
    """Words and pairs of either text, and which words both have and which one of them."""
    for side, words in (("1", first), ("2", second)):
        yield from (f"{side}\t{gram}" for gram in unigrams_and_bigrams(words))
    one, other = dict.fromkeys(first), dict.fromkeys(second)
    yield from (f"{'=' if word in other else '-'}\t{word}" for word in one)
    yield from (f"+\t{word}" for word in other if word not in one)


def shared_rows(first: list[str], second: list[str]) -> Iterator[int]:
    """A row for each step that a share of common features reaches, so that neighbouring shares have
    most rows in common; and for each word that one of the texts has alone."""
    spelled = [{part for word in words for part in _spelling(word)} for words in (first, second)]
    pairs = [set(pairwise(words)) for words in (first, second)]
    one, other = set(first), set(second)
    both = len(one & other)
    shares = [
        both / max(1, len(one | other)),
        len(pairs[0] & pairs[1]) / max(1, len(pairs[0] | pairs[1])),
        len(spelled[0] & spelled[1]) / max(1, len(spelled[0] | spelled[1])),
        both / max(1, len(one)),
        both / max(1, len(other)),
    ]
    reached = [int(STEPS * share) for share in shares]
    reached += [min(STEPS, len(words) - both) for words in (one, other)]
    for number, steps in enumerate(reached):
        yield from range(SHARES + number * STEPS, SHARES + number * STEPS + steps)


def unigrams_and_bigrams(words: list[str]) -> Iterator[str]:
    """The two words of a bigram are joined by a space, which no word holds."""
    yield from words
    for one, other in pairwise(words):
        yield f"{one} {other}"


@lru_cache(maxsize=1 << 16)
def _spelling(word: str) -> tuple[str, ...]:
    """The sequences of `NGRAM` characters of a word with its ends."""
    marked = f"<{word}>"
    starts = range(len(marked) - NGRAM + 1)
    return tuple(f"#{marked[start : start + NGRAM]}" for start in starts)
