"""OpenDocument texts and presentations (LibreOffice): the file is a document.

Notes stand where their marks are; deleted text of recorded changes is left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...settings import DataSettings
from ..documents import local_name, open_zip, parse_xml, read_part
from .base import TextChunk, document_chunks

SUFFIXES = (".odt", ".ott", ".odp")
NAME = "OpenDocument texts and presentations"
NEEDS = "documents"
CONTAINER = True

_LEFT_OUT = {"annotation", "note-citation", "tracked-changes", "forms", "ruby-text", "desc"}
_LARGEST_GAP = 1000


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of a document: a line for each heading and paragraph, with an empty line between.

    Raises:
        InputError: no OpenDocument file, or a damaged, encrypted or oversized one.
        MissingExtra: lxml is not installed.
    """
    with open_zip(path, "an OpenDocument file") as container:
        # encryption is declared in the manifest, not by the container
        if b"encryption-data" in read_part(container, "META-INF/manifest.xml", path):
            raise InputError(f"{path} is encrypted: save it without a password")
        content = read_part(container, "content.xml", path)
    body = None
    for element in parse_xml(content, f"{path}: content.xml", ["body"]):
        body = element
    if body is None:
        raise InputError(f"{path}: its content.xml has no body: get the file again")
    yield from document_chunks("\n\n".join(_paragraphs(body)))


def _paragraphs(body: Any) -> Iterator[str]:
    """The texts of headings and paragraphs that are not empty, in their order."""
    stack = [body]
    while stack:
        element = stack.pop()
        name = local_name(element)
        if name in _LEFT_OUT:
            continue
        if name in ("p", "h"):
            if text := _text(element).strip():
                yield text
        else:
            stack += reversed(element)


def _text(paragraph: Any) -> str:
    """The characters of a paragraph; its spaces, tabs and line ends are elements."""
    parts = list[str]()
    stack: list[Any] = [paragraph]
    while stack:
        element = stack.pop()
        if isinstance(element, str):
            parts.append(" ".join(element.replace("\n", " ").split(" ")))
            continue
        name = local_name(element)
        if name == "s":
            count = next((v for key, v in element.attrib.items() if key.endswith("}c")), "1")
            parts.append(" " * min(int(count), _LARGEST_GAP))
        elif name in ("tab", "line-break"):
            parts.append("\t" if name == "tab" else "\n")
        elif name not in _LEFT_OUT:
            inner = [element.text or ""]
            for child in element:
                inner += [child, child.tail or ""]
            stack += reversed(inner)
    return "".join(parts)
