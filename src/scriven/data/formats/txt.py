"""Plain text and Markdown: a file is a document, or several with `<|endoftext|>` between them."""

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from ...settings import DataSettings
from ..decoding import decode
from .base import TextChunk

SUFFIXES = (".txt", ".text", ".md", ".markdown")
NAME = "plain text and Markdown"
CUT_AT = "word"

LINE_ENDS = r"line ends \r\n and \r are read as \n (--data.newlines=keep keeps them)"
BORDERS = "the marks <|endoftext|> and <|startoftext|> are read as borders of documents"

_MARK = re.compile(r"<\|(?:end|start)oftext\|>")
_HELD = 64
"""Characters kept back at the end of a block: a mark may begin there, or the document end."""


def has_marks(head: bytes) -> bool:
    """Whether the beginning of a file holds a border of documents."""
    return _MARK.search(head.decode("utf-8", "replace").replace("\0", "")) is not None


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """A plain text, or the bytes `start` to `end` of it; the last chunk ends the document, unless
    more of it follows (`ends_document` is false)."""
    lines = io.IncrementalNewlineDecoder(None, translate=settings.newlines == "lf")
    text, at_line_start, has_marks = "", True, False
    for block in itertools.chain(decode(path, settings.encoding, start, end), [None]):
        text += lines.decode(block or "", final=block is None)
        limit = len(text) if block is None else max(0, len(text) - _HELD)
        # 1. documents that end with a mark; one that begins after the limit may be incomplete
        begins = 0
        for mark in _MARK.finditer(text, 0, min(len(text), limit + _HELD // 2)):
            before, after = text[begins : mark.start()], text[mark.end() :]
            ends_line = re.match(r"[ \t]*(?:\r?\n|\Z)", after[:_HELD])
            is_first = not before.strip(" \t") and (at_line_start or begins)
            # in a row of texts it touches both, where it is spoken of it does not
            is_between = before[-1:].strip() and after[:1].isalnum()
            if ends_line or is_first or is_between or before.rstrip(" \t").endswith("\n"):
                yield TextChunk(before, True)
                begins = mark.end() + (len(ends_line[0]) if ends_line else 0)
                has_marks = at_line_start = True
        # 2. the part of the next document that is certain
        text, limit = text[begins:], max(0, limit - begins)
        if block is None:
            break
        if limit:
            yield TextChunk(text[:limit], False)
            at_line_start = text[:limit].rstrip(" \t").endswith("\n")
            text = text[limit:]
    if text:
        yield TextChunk(text, ends_document)
    for is_seen, note in ((has_marks, BORDERS), ("\r" in "".join(lines.newlines or ()), LINE_ENDS)):
        if is_seen and (note != LINE_ENDS or settings.newlines == "lf"):
            yield TextChunk("", False, note=note)
