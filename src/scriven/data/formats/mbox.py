"""Mailboxes (mbox, as of Thunderbird or Google Takeout): a message is a document."""

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ...settings import DataSettings
from ..decoding import open_compressed
from ..documents import LARGEST_PART, reading
from .base import TextChunk, document_chunks, skip_or_raise
from .email import message_text

SUFFIXES = (".mbox",)
NAME = "mailboxes"
NEEDS = "documents for HTML"

_BEGINS = re.compile(rb"From \S+.*\d{4}\s*$|From - ")
_QUOTED = re.compile(rb"^>(>*From )")


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The texts of the messages; a mailbox may be larger than memory.

    Messages without a text are passed over. One that is too large counts as a bad row.

    Raises:
        InputError: no mailbox, or a damaged one.
        MissingExtra: lxml, which reads messages in HTML, is not installed.
    """
    number = 0
    with reading(path, "a mailbox"):
        for raw in _messages(path):
            number += 1
            if raw is None:
                wrong = f"{path} message {number} is too large"
                yield TextChunk("", False, skip_or_raise(wrong, settings.skip_bad))
            else:
                yield from document_chunks(message_text(raw, path))
    if not number:
        raise InputError(f"{path} is no mailbox: its first line must begin with 'From '")


def _messages(path: Path) -> Iterator[bytes | None]:
    """Each message as it was sent; None for one beyond `LARGEST_PART`."""
    lines: list[bytes] = []
    size, begun, blank = 0, False, True
    with open_compressed(path) as file:
        # a line that never ends is cut, so that it cannot fill the memory
        while line := file.readline(LARGEST_PART + 1):
            if blank and _BEGINS.match(line):
                if begun:
                    yield b"".join(lines) if size <= LARGEST_PART else None
                lines, size, begun = [], 0, True
            elif begun:
                size += len(line)
                if size <= LARGEST_PART:
                    lines.append(_QUOTED.sub(rb"\1", line))
            elif line.strip():
                return
            blank = not line.strip()
    if begun:
        yield b"".join(lines) if size <= LARGEST_PART else None
