"""Word documents, read by mammoth (extra `documents`): the text without headers, footers and
pictures; the file is a document.

Inserted text counts and deleted text does not, as after accepting all changes. Footnotes stand at
the end.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, MissingExtra
from ...settings import DataSettings
from ..documents import open_zip, reading
from .base import TextChunk, document_chunks
from .html import html_text

SUFFIXES = (".docx",)
NAME = "Word documents"
NEEDS = "documents"
CONTAINER = True

_DECLARES = re.compile(rb"<!DOCTYPE|<!ENTITY", re.I)


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of a document.

    Raises:
        InputError: no Word document, a damaged, encrypted or oversized one, or one with macros.
        MissingExtra: mammoth is not installed.
    """
    try:
        import mammoth
    except ImportError as error:
        raise MissingExtra("mammoth", "documents", f"reading {path}") from error
    with open_zip(path, "a Word document") as container, reading(path, "a Word document"):
        for part in container.namelist():
            # a Word document declares nothing; an entity could be expanded to any length
            if part.endswith((".xml", ".rels")) and _DECLARES.search(container.read(part)):
                raise InputError(
                    f"{path}: its part {part} declares XML entities: they are not read"
                )
        assert container.fp is not None
        container.fp.seek(0)
        # a picture becomes nothing, without being opened
        page = mammoth.convert_to_html(
            io.BytesIO(container.fp.read()),
            convert_image=lambda image: [],
            ignore_empty_paragraphs=True,
            external_file_access=False,
        ).value
        # marks of footnotes and the arrows back to them are no text
        page = re.sub(r'<sup><a href="#[\w-]*note-\d+"[^>]*>\[\d+\]</a></sup>', "", page)
        page = re.sub(r' *<a href="#[\w-]*note-ref-\d+">↑</a>', "", page)
        yield from document_chunks(html_text(page, path, keep_spaces=True))
