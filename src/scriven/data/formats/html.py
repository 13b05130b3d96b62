"""HTML pages: the text that a reader sees, laid out as a browser copies it; the file is a document.

Blocks begin on lines of their own, paragraphs after an empty line, cells of a row stand between
tabs. Scripts, styles, forms and hidden parts are left out, and nothing is loaded.
"""

import codecs
import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...settings import DataSettings
from ..decoding import AUTO, decode, read_head
from ..documents import load_etree, reading, too_large
from .base import TextChunk, translate

SUFFIXES = (".html", ".htm", ".xhtml")
NAME = "HTML pages"
NEEDS = "documents"

_HIDDEN = {
    "audio", "canvas", "datalist", "embed", "frame", "frameset", "head", "iframe", "map",
    "noembed", "noframes", "noscript", "object", "script", "select", "style", "svg", "template",
    "textarea", "title", "video",
}  # fmt: skip
_LARGEST = 1 << 30
_PREFORMATTED = {"listing", "pre", "xmp"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
    "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form",
    "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "html", "legend", "li",
    "listing", "main", "menu", "nav", "ol", "optgroup", "option", "p", "pre", "search", "section",
    "summary", "table", "tbody", "tfoot", "thead", "tr", "ul", "xmp",
}  # fmt: skip
_INVISIBLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.I)
_SPACE = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(
    rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]+encoding=["']([\w.:-]+)""", re.I
)


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of a page as one document.

    A page that is no UTF-8 is read in the encoding that it names itself.

    Raises:
        InputError: the file cannot be read, is in another encoding, or oversized.
        MissingExtra: lxml is not installed.
    """
    if settings.encoding in (DataSettings().encoding, AUTO):
        settings = dataclasses.replace(settings, encoding=_own_encoding(path) or settings.encoding)
    length = 0
    with reading(path, "an HTML page"):
        blocks = translate(decode(path, settings.encoding), settings)
        for text in visible_text(blocks, path):
            length += len(text)
            if length > _LARGEST:  # the parser keeps about as many bytes
                raise too_large(path, _LARGEST)
            yield TextChunk(text, False)
        yield TextChunk("", True)


def html_text(page: str, label: object, *, keep_spaces: bool = False) -> str:
    """The text of a page in memory; raises as `read`.

    Args:
        keep_spaces: whether white space counts everywhere, as it does in <pre>.
    """
    return "".join(visible_text([page], label, keep_spaces))


def visible_text(blocks: Iterable[str], label: object, keep_spaces: bool = False) -> Iterator[str]:
    """What a reader sees of a page that comes in blocks; as `html_text`."""
    target = _Text(keep_spaces)
    # a parser with a target builds no tree, so depth and size of a page do not matter
    etree = load_etree(label)
    parser = etree.HTMLParser(target=target, encoding="utf-8", no_network=True)
    for block in blocks:
        parser.feed(block.replace("\0", "").encode("utf-8", "replace"))
        if text := target.take():
            yield text
    with contextlib.suppress(AssertionError, etree.XMLSyntaxError):  # an empty page is no document
        parser.close()
    if text := target.take():
        yield text


def _own_encoding(path: Path) -> str | None:
    """The encoding that a page names, where its beginning is no UTF-8 and Python knows the name."""
    head = read_head(path)
    with contextlib.suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return None
    found = _CHARSET.search(head[:4096])
    with contextlib.suppress(LookupError):
        return codecs.lookup((found[1] or found[2]).decode("ascii")).name if found else None
    return None


class _Text:
    """Collects the text of a page while lxml reads it."""

    def __init__(self, keep_spaces: bool) -> None:
        self._parts: list[str] = []
        self._hidden = 0  # open elements that are not shown, and those inside of them
        self._pre = int(keep_spaces)  # open elements whose white space is shown
        self._lines = self._breaks = 0  # line ends before the next text: of <br>, and of blocks
        self._ended = 0  # line ends at the end of the last text, as <pre> may have them
        self._space = False  # whether a space stands before the next text
        self._begun = False  # whether the page has a text yet
        self._cells: list[int] = []  # cells so far of each open row
        self._empty = False  # whether this cell has no text yet
        self._after_pre = False  # whether <pre> was the last tag

    def take(self) -> str:
        """The text since the last call."""
        text, self._parts = "".join(self._parts), []
        return text

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """A tag that opens."""
        style = attributes.get("style", "")
        if self._hidden or tag in _HIDDEN or "hidden" in attributes or _INVISIBLE.search(style):
            self._hidden += 1
        elif tag == "br":
            self._lines += 1
            self._space = False
        elif tag in ("td", "th") and self._cells:
            self._cells[-1] += 1
            if self._cells[-1] > 1:
                self._space = False
                self._write("\t")
            self._empty = True
        else:
            if tag == "tr":
                self._cells.append(0)
            self._after_pre = tag in _PREFORMATTED
            self._pre += self._after_pre
            self._break(tag)

    def end(self, tag: str) -> None:
        """A tag that closes."""
        if self._hidden:
            self._hidden -= 1
        elif tag in ("td", "th") and self._cells:
            if not self._empty:  # what ends in a cell begins no line
                self._lines = self._breaks = 0
            self._empty = False
        else:
            if tag == "tr" and self._cells:
                self._cells.pop()
            self._pre -= tag in _PREFORMATTED
            self._break(tag)

    def data(self, text: str) -> None:
        """Characters between two tags, or a part of them."""
        if self._hidden:
            return
        if self._pre:
            text = text.removeprefix("\n") if self._after_pre else text
            self._after_pre = False
            if text:
                self._write(text)
            return
        text = _SPACE.sub(" ", text)
        self._space = self._space or text.startswith(" ")
        if words := text.strip(" "):
            self._write(words)
            self._space = text.endswith(" ")

    def close(self) -> None:
        """The end of the page, for lxml."""

    def _break(self, tag: str) -> None:
        """A border of a block; the first one in a cell begins no line."""
        if tag in _BLOCKS and not self._empty:
            self._breaks = max(self._breaks, 2 if tag == "p" else 1)
            self._space = False

    def _write(self, text: str) -> None:
        lines = max(self._lines, self._breaks)
        if lines and self._begun:
            self._parts.append("\n" * max(0, lines - self._ended))
        elif self._space and self._begun and not self._empty:
            self._parts.append(" ")
        self._parts.append(text)
        self._ended = len(text) - len(text.rstrip("\n"))
        self._lines = self._breaks = 0
        self._space, self._begun, self._empty = False, True, False
