"""The words of a text, for counting: lower case, marks as words of their own."""

import re

MOST = 2000
"""Words of one text that are looked at: the first."""

_SIGN = "\u3040-\u30ff\u3400-\u9fff"
"""Kana and Chinese characters, which are written without spaces: each is a word."""
_WORD = re.compile(rf"[{_SIGN}]|(?:(?![{_SIGN}])[\w'])+|[^\w\s]")


def words(text: str) -> list[str]:
    """At most `MOST` words; an apostrophe belongs to its word."""
    found = []
    for match in _WORD.finditer(text.lower()):
        found.append(match.group())
        if len(found) == MOST:
            break
    return found
