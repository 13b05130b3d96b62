"""The frame of a labelled input, written into tokenizer.json for other programs.

Whoever calls `tokenizer(text)` or `tokenizer(text, pair)` there gets the start, delimiter and
extract tokens where our own tasks put them (`tasks/shared/labelled.py`). `Tokenizer.encode` adds
nothing, with or without it.
"""

import json

from tokenizers.processors import TemplateProcessing

import tokenizers

from .special_tokens import SPECIAL_TOKENS

NEEDS = ("start", "delimiter", "extract")
"""Special tokens that a labelled input is made of."""

_START, _DELIMITER, _EXTRACT = (SPECIAL_TOKENS[name] for name in NEEDS)


def has_frame(backend: tokenizers.Tokenizer) -> bool:
    """Whether a frame is there; an imported tokenizer may have a template of its own."""
    return _START in json.dumps(json.loads(backend.to_str())["post_processor"])


def set_frame(backend: tokenizers.Tokenizer, wanted: bool) -> None:
    """Puts the frame there, or takes it away: what answers in words is asked without one."""
    if not wanted:
        if has_frame(backend):
            backend.post_processor = None
        return
    ids = [(mark, backend.token_to_id(mark)) for mark in (_START, _DELIMITER, _EXTRACT)]
    backend.post_processor = TemplateProcessing(
        single=f"{_START} $A {_EXTRACT}",
        pair=f"{_START} $A {_DELIMITER} $B {_EXTRACT}",
        special_tokens=ids,
    )
