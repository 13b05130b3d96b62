"""EPUB books: the text of the chapters in the order of reading; the file is a document.

The table of contents and pages outside of the order of reading are left out.
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from ...errors import InputError
from ...settings import DataSettings
from ..documents import local_name, open_zip, parse_xml, read_part, reading
from .base import TextChunk
from .html import html_text

SUFFIXES = (".epub",)
NAME = "EPUB books"
NEEDS = "documents"
CONTAINER = True

_CONTAINER = "META-INF/container.xml"
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""What obfuscates fonts, and encrypts no text."""


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of a book, a chunk for each chapter.

    Raises:
        InputError: no EPUB book, a damaged or oversized one, or one with copy protection.
        MissingExtra: lxml is not installed.
    """
    has_text = False
    with open_zip(path, "an EPUB book") as container, reading(path, "an EPUB book"):
        if "META-INF/encryption.xml" in container.namelist():
            content = read_part(container, "META-INF/encryption.xml", path)
            for method in parse_xml(content, path, ["EncryptionMethod"]):
                if method.get("Algorithm") not in _FONTS:
                    raise InputError(f"{path} has copy protection (DRM): it cannot be read")
        # 1. the package names the parts, and the order in which they are read
        roots = parse_xml(read_part(container, _CONTAINER, path), path, ["rootfile"])
        root = next((each.get("full-path") for each in roots if each.get("full-path")), None)
        if root is None:
            raise InputError(f"{path} names no package: get the book again")
        parts, order = dict[str, str](), list[str]()
        for element in parse_xml(read_part(container, root, path), path, ["item", "itemref"]):
            if local_name(element) == "itemref":
                if element.get("linear") != "no":
                    order.append(element.get("idref", ""))
            elif "nav" not in (element.get("properties") or "").split():
                if "html" in (element.get("media-type") or ""):
                    href = unquote((element.get("href") or "").partition("#")[0])
                    # a path that leads out of the book is one that the book does not have
                    where = posixpath.normpath(posixpath.join(posixpath.dirname(root), href))
                    parts[element.get("id", "")] = where
        # 2. the chapters
        for name in order:
            if name in parts:
                page = read_part(container, parts[name], path).decode("utf-8-sig", "replace")
                if text := html_text(page, path):
                    yield TextChunk("\n\n" * has_text + text, False)
                    has_text = True
        if not has_text:
            raise InputError(f"{path} has no text: a book of pictures cannot be read")
        yield TextChunk("", True)
