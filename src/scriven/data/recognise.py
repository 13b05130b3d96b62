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
    "chat": "a chat",
    "compressed": "compressed data",
    "doc": "an old Office document",
    "docx": "a Word document",
    "email": "an e-mail",
    "epub": "an EPUB book",
    "ebook": "a Kindle or DjVu book",
    "gguf": "a GGUF model",
    "gzip": "a gzip archive",
    "html": "an HTML page",
    "image": "an image",
    "json": "a JSON document",
    "jsonl": "a table of JSON lines",
    "mbox": "a mailbox",
    "notebook": "a Jupyter notebook",
    "odt": "an OpenDocument text",
    "office": "an Office document",
    "packed": "a 7-Zip or RAR archive",
    "parquet": "a Parquet table",
    "pdf": "a PDF document",
    "pickle": "a pickle",
    "postscript": "a PostScript document",
    "program": "a program",
    "rtf": "an RTF document",
    "slides": "a PowerPoint presentation",
    "spreadsheet": "an OpenDocument spreadsheet",
    "sqlite": "a SQLite database",
    "squad": "a SQuAD file",
    "subtitles": "a file of subtitles",
    "xlsx": "an Excel spreadsheet",
    "xml": "an XML document",
}
"""What a user calls each kind."""

REMEDIES = {
    "compressed": "name it with the ending .bz2, .xz or .zst",
    "doc": "save it as .docx or .xlsx, without a password",
    "gzip": "name it with the ending .gz",
    "packed": "unpack it first",
    "slides": "save it as .odp or .pdf",
    "spreadsheet": "save it as .xlsx or .csv",
}

_SIGNATURES = [
    (b"%PDF-", "pdf"),
    (b"%!PS", "postscript"),
    (b"{\\rtf", "rtf"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "compressed"),
    (b"\xfd7zXZ\0", "compressed"),
    (b"(\xb5/\xfd", "compressed"),
    (b"7z\xbc\xaf\x27\x1c", "packed"),
    (b"Rar!\x1a\x07", "packed"),
    (b"AT&TFORM", "ebook"),
    (b"ITOLITLS", "ebook"),
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
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "spreadsheet"),
    (b"mimetypeapplication/vnd.oasis", "odt"),
    (b"word/", "docx"),
    (b"xl/", "xlsx"),
    (b"ppt/", "slides"),
    (b"[Content_Types].xml", "office"),
]
_SUFFIXES = {".doc": "doc", ".ods": "spreadsheet", ".ppt": "doc", ".pptx": "slides",
             ".xls": "doc", ".xml": "xml"}  # fmt: skip
"""What a file without a reader is called whose first bytes say nothing."""
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
_CHAT_BEGINS = re.compile(
    r"[\u200e\u200f]?\[?\d{1,4}[./-]\d{1,2}[./-]\d{2,4},?\s\d\d?[:.]\d\d", re.A
)
# not the lines of a log, which begin alike
_CHAT = re.compile(
    r"^[\u200e\u200f]?(?:\[?\d{1,2}[./-]\d{1,2}[./-]\d{2,4}, |\[\d{4}-\d\d-\d\d,? )\d\d?[:.]\d\d"
    r"(?:[:.]\d\d)?(?:\s?[ap]\.?\s?m\.?)?(?:\]|\s-)\s(?!(?:\w+\.)*(?:INFO|WARN|ERROR|DEBUG|TRACE|FATAL"
    r"|CRITICAL|NOTICE))[^:\n]{1,60}: ",
    re.M | re.I,
)
_CHAT_KEYS = re.compile(
    r'"type"\s*:\s*"(?:personal|bot)_chat"|"type"\s*:\s*"(?:private|public)_(?:super)?(?:group|channel)"'
    r'|"type"\s*:\s*"saved_messages"|"exportedAt"\s*:|"dateRange"\s*:|"sender_name"\s*:'
    r'|"ts"\s*:\s*"\d{9,}\.\d+"|"sender"\s*:(?=[^}]*"body"\s*:)(?=[^}]*"reactions"\s*:)'
)
"""Keys that only exports of chats have: Telegram, Discord, Messenger, Slack, Signal."""
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
    if head[60:68] == b"BOOKMOBI":
        return "ebook"
    if head[257:262] == b"ustar":
        return "archive"
    if head[4:8] == b"ftyp":
        return "audio"
    # 2. markup and the like, in any encoding
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head).replace("\r", "\n")
    except UnicodeDecodeError:
        guess = guess_encoding(head)
        if guess is None:
            return "binary"
        text = head.decode(guess.encoding, "replace").lstrip("\ufeff")
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
    if len(_CHAT.findall(text[:20_000])) > 2 and _CHAT_BEGINS.match(text):
        return "chat"
    return _json_kind(text, whole=len(head) < 1 << 16) if _JSON.match(text) else None


def _json_kind(text: str, whole: bool) -> str | None:
    """json, jsonl, squad, chat or notebook; None for a text that only begins as JSON does."""
    if _CHAT_KEYS.search(text):
        return "chat"
    other = "notebook" if '"nbformat"' in text or '"cell_type"' in text else "json"
    other = "squad" if '"paragraphs"' in text and '"qas"' in text else other
    if text.startswith("{"):
        # JSON lines: each line is an object of its own
        lines = [line for line in text.split("\n")[:3] if line.strip()]
        try:
            if all(isinstance(json.loads(line), dict) for line in lines[: 1 + whole]):
                return "jsonl" if len(lines) > 1 else other
        except (ValueError, RecursionError):
            pass
    try:
        json.loads(text)
    except RecursionError:
        return other
    except json.JSONDecodeError as error:
        # what was cut off at the end of the head is wrong there, not before
        is_cut = error.pos > len(text) - 1000 or error.msg.startswith("Unterminated")
        if whole or not is_cut:
            return None
    return other
