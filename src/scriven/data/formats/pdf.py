"""PDF documents, read page by page by PDFium (extra `documents`); the file is a document.

The lines are those of the pages. A word that is divided at the end of a line is joined again.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, MissingExtra
from ...format import plural
from ...settings import DataSettings
from ..documents import plain_file, reading
from .base import TextChunk

SUFFIXES = (".pdf",)
NAME = "PDF documents"
NEEDS = "documents"

_HYPHEN = re.compile("[\u0002\ufffe]\n?")
"""How PDFium writes a hyphen at the end of a line."""


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of a document, a chunk for each page.

    Raises:
        InputError: damaged, encrypted, or of pictures alone.
        MissingExtra: pypdfium2 is not installed.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingExtra("pypdfium2", "documents", f"reading {path}") from error
    with plain_file(path) as file, reading(path, "a PDF document"):
        try:
            document = pypdfium2.PdfDocument(file)
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise InputError(f"{path} is encrypted: save it without a password") from error
            raise
        has_text = False
        try:
            for number in range(len(document)):
                page = document[number]
                content = page.get_textpage()
                text = content.get_text_bounded().replace("\r\n", "\n").replace("\r", "\n")
                content.close()
                page.close()
                text = _HYPHEN.sub("", text).replace("\0", "").strip("\n")
                if text:
                    yield TextChunk("\n" * has_text + text, False)
                    has_text = True
            if not has_text:
                raise InputError(
                    f"{path} has {plural(len(document), 'page')} without any text, as of a"
                    " scanner: recognise the text first (ocrmypdf does)"
                )
        finally:
            document.close()
    yield TextChunk("", True)
