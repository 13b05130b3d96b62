"""Chats as their programs export them: WhatsApp (text), Telegram, Discord (DiscordChatExporter),
Slack, Signal (signal-export) and Messenger (JSON). A chat is a document of lines `NAME: MESSAGE`.

Notices of the program, such as who joined, and media without a text are left out.
"""

import contextlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...settings import DataSettings
from ..decoding import decode
from ..documents import LARGEST_PART, line_ends, reading, too_large, whole_text
from .base import LARGEST_ROW, TextChunk, document_chunks, split_lines, translate

SUFFIXES = ()
NAME = "chats of WhatsApp, Telegram, Discord, Slack, Signal, Messenger"

_MARKS = "\u200e\u200f\u202a\u202c\ufeff"
_STAMP = re.compile(
    rf"[{_MARKS}]*\[?(?:\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}|\d{{4}}[./-]\d\d?[./-]\d\d?),?\s"
    r"\d{1,2}[:.]\d\d(?:[:.]\d\d)?(?:\s?[ap]\.?\s?m\.?)?(?:\]|\s-)\s?",
    re.I,
)
_MEDIA = re.compile(
    rf"<[^<>]*>|[{_MARKS}]+(?:image|video|audio|sticker|GIF|document|Contact card|.*) omitted"
    r"|.*\((?:file attached|Datei angehängt)\)|null",
)
_SLACK_LINK = re.compile(r"<(?:(?:https?|mailto)[^<>|]*\|)?([^<>|]*)(?:\|([^<>]*))?>")

Said = Iterator[tuple[str, str]]
"""Who, and what."""


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The messages in the order of time, one document for each chat of the file.

    Raises:
        InputError: no chat of a program that is known.
    """
    has_text = False
    if next(decode(path, settings.encoding), "").lstrip()[:1] not in ("{", "["):
        for name, message in _text_messages(path, settings):
            yield TextChunk(f"{chr(10) * has_text}{name}: {message}", False)
            has_text = True
        yield TextChunk("", True)
    else:
        with reading(path, "a chat"):
            for chat in _chats(_load(path, settings), path):
                lines = [f"{name}: {text.strip()}" for name, text in chat if name and text.strip()]
                if lines:
                    has_text = True
                    yield from document_chunks(line_ends("\n".join(lines), settings))
    if not has_text:
        raise InputError(f"{path} holds no messages of a chat that is known: give it as plain text")


def _text_messages(path: Path, settings: DataSettings) -> Said:
    """The messages of WhatsApp; a line without a time goes on with the message before."""
    name, lines, size = "", list[str](), 0
    for line in split_lines(translate(decode(path, settings.encoding), settings), path):
        line = line.rstrip("\n")
        stamp = _STAMP.match(line)
        if stamp is None:
            lines, size = [*lines, line] if lines else [], size + len(line)
            if size > LARGEST_PART:
                raise too_large(f"{path}: a message")
            continue
        if name and lines:
            yield name, "\n".join(lines).rstrip("\n")
        name, colon, text = line[stamp.end() :].partition(": ")
        name, size = name.strip(f" ~{_MARKS}"), len(text)
        lines = [text.strip(_MARKS)] if colon and text and not _MEDIA.fullmatch(text) else []
    if name and lines:
        yield name, "\n".join(lines).rstrip("\n")


def _load(path: Path, settings: DataSettings) -> Any:
    """A JSON document, or the values of JSON lines as a list."""
    text = whole_text(path, settings, 4 * LARGEST_ROW)
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _chats(export: Any, path: Path) -> Iterator[Said]:
    """The chats of an export, by the keys that its program writes."""
    if isinstance(export, list) and any("ts" in each for each in export):
        yield _slack(export, path)
    elif isinstance(export, list):
        yield ((each.get("sender", ""), each.get("body") or "") for each in export)
    elif "guild" in export:
        yield _discord(export["messages"])
    elif "participants" in export:
        yield _messenger(export["messages"])
    else:  # all chats of a person, or one
        for chat in export.get("chats", {}).get("list") or [export]:
            yield _telegram(chat["messages"])


def _slack(messages: list[dict[str, Any]], path: Path) -> Said:
    names: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        # the export has one list of users, in the folder above that of the channel
        users = json.loads((path.parent.parent / "users.json").read_text(encoding="utf-8"))
        names = {each["id"]: _slack_name(each.get("profile") or {}, each["id"]) for each in users}

    def shown(link: re.Match[str]) -> str:
        target, label = link[1], link[2]
        if target.startswith("@"):
            return f"@{label or names.get(target[1:], target[1:])}"
        return f"#{label}" if target.startswith("#") and label else str(label or target)

    for each in messages:
        if each.get("type") == "message" and each.get("subtype") in (None, "thread_broadcast"):
            user = str(each.get("user", ""))
            name = names.get(user) or _slack_name(each.get("user_profile") or {}, user)
            yield name, html.unescape(_SLACK_LINK.sub(shown, each.get("text") or ""))


def _slack_name(profile: dict[str, Any], user: str) -> str:
    return str(profile.get("display_name") or profile.get("real_name") or user)


def _discord(messages: list[dict[str, Any]]) -> Said:
    for each in messages:
        if each.get("type", "Default") in ("Default", "Reply", "0", "19"):
            author = each["author"]
            yield author.get("nickname") or author.get("name") or "", each.get("content") or ""


def _messenger(messages: list[dict[str, Any]]) -> Said:
    """The newest message stands first, and the bytes of UTF-8 are written as characters."""
    for each in reversed(messages):
        name, text = each.get("sender_name", ""), each.get("content") or ""
        with contextlib.suppress(UnicodeError):
            name, text = (value.encode("latin-1").decode("utf-8") for value in (name, text))
        yield name, text


def _telegram(messages: list[dict[str, Any]]) -> Said:
    for each in messages:
        if each.get("type") == "message":
            text = each.get("text", "")
            parts = [text] if isinstance(text, str) else text
            words = (part if isinstance(part, str) else part.get("text", "") for part in parts)
            yield each.get("from") or "", "".join(words)
