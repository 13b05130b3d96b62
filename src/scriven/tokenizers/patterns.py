"""How byte-level BPE cuts text into words before merging, and where text may be cut in two.

The patterns are known to other engines by their exact spelling: llama.cpp and Ollama pick their
splitting code by it, so none of them may be changed. `words` is ours, for word-level vocabularies.
"""

import re
from collections.abc import Iterator

from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from tokenizers import Regex

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "llama3": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",
    "qwen2": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",
    "words": r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}

CHUNK = 65_536
"""Characters that are encoded at once, so that memory and time stay linear in the text."""

# no pattern of PATTERNS has a word that reaches over either of these places
_BOUNDARY = re.compile(r"(?<=\S)(?= )|(?<=\S\n)(?=\S)")


def pre_tokenizer(pattern: str) -> PreTokenizer:
    """The pre-tokenizer of a pattern: a name of `PATTERNS`, `gpt2`, or `none` (do not split)."""
    # GPT-2's pattern is built into the library
    if pattern in ("gpt2", "none"):
        return ByteLevel(add_prefix_space=False, use_regex=pattern == "gpt2")
    split = Split(Regex(PATTERNS[pattern]), behavior="isolated")
    return Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])


def cut(text: str, start: int = 0) -> int:
    """Where the chunk that begins at `start` ends, when more than `CHUNK` characters follow.

    Between a character that is no space and a space, or between a single line end and a character
    that is no space, every pattern here has a boundary, whatever stands further left or right; so
    encoding the parts gives the ids of the whole. A stretch of 65,536 characters without such a
    place is cut at its end, and only there may ids differ from an encoder that never cuts.
    """
    end = start + CHUNK
    # mostly there is a boundary in the last 512 characters; else the whole chunk is searched
    for lowest in (max(start, end - 512), start):
        # the search may look one character past the end: a space there makes `end` a boundary
        places = [match.start() for match in _BOUNDARY.finditer(text, lowest, end + 1)]
        places = [place for place in places if start < place <= end]
        if places:
            return places[-1]
    return end


def boundary(text: str) -> int | None:
    """The first place where a text may be cut in two and encoded apart; None for none."""
    match = _BOUNDARY.search(text)
    return None if match is None else match.start()


def cut_finely(text: str, size: int) -> Iterator[str]:
    """The text in parts of `size` characters and more, cut only at boundaries (see `cut`)."""
    start = 0
    while match := _BOUNDARY.search(text, start + size):
        yield text[start : match.start()]
        start = match.start()
    yield text[start:]


def chunks(text: str) -> Iterator[str]:
    """The text in parts of at most `CHUNK` characters, cut at word boundaries."""
    start = 0
    while len(text) - start > CHUNK:
        end = cut(text, start)
        yield text[start:end]
        start = end
    yield text[start:]
