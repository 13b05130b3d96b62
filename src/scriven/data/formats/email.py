"""E-mails, and web archives (MHTML), which have the same form: the file is a document.

The subject stands above the text. Of a message that comes as plain text and as a page, the plain
text is read; attachments are left out.
"""

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from ...errors import InputError
from ...settings import DataSettings
from ..documents import LARGEST_PART, line_ends, plain_file, reading, too_large
from .base import TextChunk, document_chunks
from .html import html_text

SUFFIXES = (".eml", ".mht", ".mhtml")
NAME = "e-mails and web archives"
NEEDS = "documents for HTML"


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of one message.

    Raises:
        InputError: no message, or an oversized one.
        MissingExtra: lxml, which reads a message in HTML, is not installed.
    """
    with plain_file(path) as file, reading(path, "an e-mail"):
        if file.stat().st_size > LARGEST_PART:
            raise too_large(path)
        text = message_text(file.read_bytes(), path)
    if not text:
        raise InputError(f"{path} has no text: it holds attachments alone")
    yield from document_chunks(text)


def message_text(raw: bytes, label: object) -> str:
    """Subject and text of a message; empty where it has no text."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain", "html"))
    text = _content(body) if isinstance(body, EmailMessage) else ""
    if body is not None and body.get_content_subtype() == "html":
        text = html_text(text, label)
    # lines may end in any way, and " " at the end says that a line goes on (format=flowed)
    text = line_ends(text, DataSettings()).strip()
    subject = " ".join(str(message["subject"] or "").split())
    return f"{subject}\n\n{text}" if subject and text else text


def _content(part: EmailMessage) -> str:
    """The characters of a part; an unknown or wrong encoding costs single characters alone."""
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError, KeyError):
        raw = part.get_payload(decode=True)
        return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""
