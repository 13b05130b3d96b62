"""Jupyter notebooks: the text and the code of the cells without outputs; the file is a document."""

import json
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ...settings import DataSettings
from ..documents import line_ends, reading, whole_text
from .base import TextChunk, document_chunks

SUFFIXES = (".ipynb",)
NAME = "Jupyter notebooks"


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The cells, with an empty line between them.

    Raises:
        InputError: no notebook, or an oversized one.
    """
    with reading(path, "a notebook"):
        book = json.loads(whole_text(path, settings))
        # the cells of format 3 are in worksheets
        sheets = book.get("worksheets") or [book]
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        sources = [cell.get("source", cell.get("input", "")) for cell in cells]
        texts = [source if isinstance(source, str) else "".join(source) for source in sources]
    text = "\n\n".join(text.strip("\n") for text in texts if text.strip())
    if not text:
        raise InputError(f"{path} has no cell with a text: open it, and save it again")
    yield from document_chunks(line_ends(text, settings))
