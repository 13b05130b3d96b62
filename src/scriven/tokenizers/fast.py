"""Byte-level BPE by the package gigatoken (extra `data`), where it is installed: the same ids, and
about a hundred times faster on one core.

It gets only characters whose Unicode category is the same in all versions, as an exhaustive test
compares; text with others goes to the `tokenizers` library, whose ids are the reference. Each
encoder is first compared with the library on a text of hard cases.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Ids, Tokenizer
from .patterns import cut_finely

PATTERNS = ("llama3", "gpt2", "qwen2")
"""The patterns it has code for."""

STABLE = (
    r"\u0000-\u0527\u0590-\u06ff\u0900-\u097f\u1e00-\u206f\u20a0-\u20b5\u2100-\u214f\u2190-\u23ff"
    r"\u2500-\u27bf\u3000-\u30ff\u4e00-\u9fa5\uac00-\ud7a3\uff00-\uffef\U0001f300-\U0001f64f"
    r"\U0001f900-\U0001f9ff"
)
"""Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, punctuation, signs, Japanese, Chinese,
Korean, and emoji."""

_UNSTABLE = re.compile(f"[^{STABLE}]")
_HARD_CASES = (
    "I'll it's IT'S we'\u017f 'tis  a\u00a0b\t\tc \n\n  d\r\n12345 \u00bd <|endoftext|><|pad|>\x00"
    " \u4e2d\u6587 \ud55c\uad6d e\u0301 \u2014 \u201cok\u201d \U0001f600 ___ ...\n x"
)
_PART = 1024
"""Characters around an unstable one that the library encodes."""

_RENEW_AFTER = 1 << 25
"""Characters after which an encoder is built again, because its cache grows with the text."""

Encoder = Callable[[list[str]], list[Ids]]


def fast_encoder(tokenizer: Tokenizer) -> Encoder:
    """The quickest way to the ids that `tokenizer.encode_chunks` gives."""
    if tokenizer.kind != "bpe" or tokenizer.pattern not in PATTERNS:
        return tokenizer.encode_chunks
    try:
        encoder = _Fast(tokenizer)
        (ids,) = encoder([_HARD_CASES])
    except Exception:  # not installed, or a vocabulary that it cannot read
        return tokenizer.encode_chunks
    # trusted only where it agrees with the library: versions of both may differ in a pattern
    (expected,) = tokenizer.encode_chunks([_HARD_CASES])
    return encoder if np.array_equal(ids, expected) else tokenizer.encode_chunks


class _Fast:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._slow = tokenizer
        plain = json.loads(tokenizer.backend.to_str())
        plain["added_tokens"] = []  # in a user's text they are plain characters
        self._json = json.dumps(plain)
        self._fast: Any = None
        self._read = 0

    def __call__(self, texts: list[str]) -> list[Ids]:
        encoded: list[Ids] = []
        for text in texts:
            if text.isascii() or _UNSTABLE.search(text) is None:
                encoded.append(self._encode_stable(text))
                continue
            # the library for parts with unstable characters, gigatoken for the parts between
            parts = [
                self._slow.encode_chunks([part])[0]
                if _UNSTABLE.search(part)
                else self._encode_stable(part)
                for part in cut_finely(text, _PART)
            ]
            encoded.append(np.concatenate(parts))
        return encoded

    def _encode_stable(self, text: str) -> Ids:
        if self._fast is None or self._read > _RENEW_AFTER:
            import gigatoken  # an extra, loaded only where a text is prepared with it

            self._fast, self._read = gigatoken.Tokenizer.from_json(self._json), 0
        self._read += len(text)
        ids: Ids = self._fast.encode(text).astype(np.int32)
        return ids
