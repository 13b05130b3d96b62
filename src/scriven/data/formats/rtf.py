"""RTF documents, read by striprtf (extra `documents`); the file is a document."""

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, MissingExtra
from ...settings import DataSettings
from ..documents import LARGEST_PART, plain_file, reading, too_large
from .base import TextChunk, document_chunks

SUFFIXES = (".rtf",)
NAME = "RTF documents"
NEEDS = "documents"

_BINARY = re.compile(r"\\bin\d+ ")


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of a document, in the encodings that it names itself.

    Raises:
        InputError: no RTF document, or an oversized one.
        MissingExtra: striprtf is not installed.
    """
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError as error:
        raise MissingExtra("striprtf", "documents", f"reading {path}") from error
    with plain_file(path) as file, reading(path, "an RTF document"):
        if file.stat().st_size > LARGEST_PART:
            raise too_large(path)
        source = file.read_bytes().decode("latin-1")  # RTF is ASCII; the rest is escaped
        if not source.lstrip().startswith("{\\rtf"):
            raise InputError(f"{path} is no RTF document: rename it to what it is")
        if not source.rstrip("\0 \r\n\t").endswith("}"):
            raise InputError(f"{path} is cut off: an RTF document ends with }}: get it again")
        if _BINARY.search(source):
            raise InputError(f"{path} holds binary data (\\bin): save it as .docx")
        yield from document_chunks(rtf_to_text(source, errors="replace").strip())
