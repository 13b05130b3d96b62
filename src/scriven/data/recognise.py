"""What a file holds, by its first bytes: markup, documents and archives are not read as text.

A kind that has a reader, a file of `formats/` with its name, is read by it whatever the file is
called; any other kind is refused by name, and passed over in folders.
"""

import codecs
import json
import re
from functools import lru_cache
from pathlib import Path

from .decoding import guess_encoding, read_head, strip_compression

KINDS = {
    "archive": "an archive",
    "audio": "a sound or video file",
    "binary": "binary data",
    "doc": "an old Office document",
    "docx": "a Word document",
    "email": "an e-mail",
    "epub": "an EPUB book",
    "gguf": "a GGUF model",
    "gzip": "a gzip archive",
    "html": "an HTML page",
    "image": "an image",
    "json": "a JSON document",
    "jsonl": "a table of JSON lines",
    "mbox": "a mailbox",
    "notebook": "a Jupyter notebook",
    "odt": "an OpenDocument file",
    "office": "an Office document",
    "parquet": "a Parquet table",
    "pdf": "a PDF document",
    "pickle": "a pickle",
    "postscript": "a PostScript document",
    "program": "a program",
    "rtf": "an RTF document",
    "sqlite": "a SQLite database",
    "subtitles": "a file of subtitles",
    "xml": "an XML document",
}
"""What a user calls each kind."""

REMEDIES = {
    "json": "write one object a line, as .jsonl (jq -c '.[]' does)",
    "gzip": "name it with the ending .gz",
    "jsonl": "name it with the ending .jsonl",
    "parquet": "name it with the ending .parquet",
}

_SIGNATURES = [
    (b"%PDF-", "pdf"),
    (b"%!PS", "postscript"),
    (b"{\\rtf", "rtf"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ\0", "archive"),
    (b"(\xb5/\xfd", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!\x1a\x07", "archive"),
    (b"PAR1", "parquet"),
    (b"SQLite format 3\0", "sqlite"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "doc"),
    (b"GGUF", "gguf"),
    (b"\x89PNG", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"RIFF", "audio"),
    (b"OggS", "audio"),
    (b"ID3", "audio"),
    (b"fLaC", "audio"),
    (b"\x7fELF", "program"),
    (b"MZ\x90\0", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"\x80\x02}", "pickle"),
    (b"\x80\x04\x95", "pickle"),
    (b"\x80\x05\x95", "pickle"),
    (b"\x93NUMPY", "binary"),
]
_ZIPPED = [
    (b"mimetypeapplication/epub", "epub"),
    (b"mimetypeapplication/vnd.oasis", "odt"),
    (b"word/", "docx"),
    (b"[Content_Types].xml", "office"),
]
_SUFFIXES = {
    ".doc": "doc", ".docx": "docx", ".eml": "email", ".epub": "epub", ".htm": "html",
    ".html": "html", ".ipynb": "notebook", ".json": "json", ".mbox": "mbox", ".odt": "odt",
    ".pdf": "pdf", ".rtf": "rtf", ".srt": "subtitles", ".vtt": "subtitles", ".xhtml": "html",
    ".xml": "xml",
}  # fmt: skip
"""What a file is called whose first bytes say nothing, such as a part of an HTML page."""
_HTML = re.compile(
    r"(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
_XML = re.compile(r"<\?xml\s|<!DOCTYPE\s|<svg\s|<rss\s|<mediawiki\s", re.I)
_SUBTITLES = re.compile(r"WEBVTT\b|\[Script Info\]|\d+\s*\n\d\d:\d\d:\d\d[,.]\d{3}\s+-->", re.A)
_HEADERS = re.compile(
    r"(?:(?:From|To|Cc|Subject|Date|Received|Return-Path|Message-ID|MIME-Version|Delivered-To"
    r"|Content-Type|Reply-To|DKIM-Signature|X-[\w-]+): .*\n(?:[ \t].*\n)*){3}",
    re.I,
)
_JSON = re.compile(
    r'\{\s*(?:"(?:[^"\\\n]|\\.)*"\s*:|\}\s*$)|\[\s*(?:[{\["\]]|-?\d|null\b|true\b|false\b)'
)


def recognise(path: Path, *, by_name: bool = True) -> str | None:
    """The kind of a regular file, a key of KINDS; None for plain text, and for what looks like it.

    Args:
        by_name: whether the suffix decides where the content says nothing.

    Raises:
        InputError: the file cannot be read.
    """
    status = path.stat()
    kind = _recognise(path, status.st_size, status.st_mtime_ns)
    return kind or (_SUFFIXES if by_name else {}).get(strip_compression(path).suffix.lower())


@lru_cache(10_000)
def _recognise(path: Path, size: int, mtime_ns: int) -> str | None:
    return recognise_bytes(read_head(path))


def recognise_bytes(head: bytes) -> str | None:
    """The kind of a file that begins with these bytes; as `recognise`."""
    # 1. binary formats, by their signatures
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if b"%PDF-" in head[:1024] and b" obj" in head:  # other bytes may stand before it
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return next((kind for mark, kind in _ZIPPED if mark in head), "archive")
    if head[257:262] == b"ustar":
        return "archive"
    if head[4:8] == b"ftyp":
        return "audio"
    # 2. markup and the like, in any encoding
    text = _text(head)
    if text is None:
        return "binary"
    text = text.lstrip()
    if _HTML.match(text):
        return "html"
    if _XML.match(text):
        return "xml"
    if _SUBTITLES.match(text):
        return "subtitles"
    if text.startswith("From ") and _HEADERS.match(text.partition("\n")[2]):
        return "mbox"
    if _HEADERS.match(text):
        return "email"
    return _json_kind(text, whole=len(head) < 1 << 16) if _JSON.match(text) else None


def _json_kind(text: str, whole: bool) -> str | None:
    """json, jsonl or notebook; None for a text that only begins as JSON does."""
    if text.startswith("{"):
        # JSON lines: each line is an object of its own
        lines = [line for line in text.split("\n")[:3] if line.strip()]
        try:
            if all(isinstance(json.loads(line), dict) for line in lines[: 1 + whole]):
                return "jsonl" if len(lines) > 1 else "json"
        except (ValueError, RecursionError):
            pass
    try:
        json.loads(text)
    except RecursionError:
        return "json"
    except json.JSONDecodeError as error:
        # what was cut off at the end of the head is wrong there, not before
        is_cut = error.pos > len(text) - 1000 or error.msg.startswith("Unterminated")
        if whole or not is_cut:
            return None
    return "notebook" if '"nbformat"' in text or '"cell_type"' in text else "json"


def _text(head: bytes) -> str | None:
    """The head as characters; None for binary data."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head).replace("\r", "\n")
    except UnicodeDecodeError:
        guess = guess_encoding(head)
    return None if guess is None else head.decode(guess.encoding, "replace").lstrip("\ufeff")
