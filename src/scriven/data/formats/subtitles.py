"""Subtitles, read by pysubs2 (extra `documents`): what is said, a line each; the file is a
document."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, MissingExtra
from ...settings import DataSettings
from ..documents import line_ends, reading, whole_text
from .base import TextChunk, document_chunks

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
NAME = "subtitles"
NEEDS = "documents"

_REMARKS = re.compile(r"\n\n+(?:NOTE|STYLE|REGION)\b[^\n]*(?:\n[^\n]+)*")
_NAMES = re.compile(r"\n\n+[^\n]+\n(?=[\d:.]+[ \t]+-->)")
"""Parts of a WebVTT file that are no text: pysubs2 would take the names of cues for such."""


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The text of a film without times, numbers, styles and comments.

    A line that is shown several times in a row, as in subtitles made while speaking, counts once.

    Raises:
        InputError: no subtitles, or none that can be read.
        MissingExtra: pysubs2 is not installed.
    """
    try:
        import pysubs2
    except ImportError as error:
        raise MissingExtra("pysubs2", "documents", f"reading {path}") from error
    text = line_ends(whole_text(path, settings), DataSettings())
    if text.startswith("WEBVTT"):
        text = _NAMES.sub("\n\n", _REMARKS.sub("\n", text))
    with reading(path, "subtitles"):
        # a film that lacks its styles is not recognised as one
        kind = "ass" if text.lstrip().startswith("[Script Info]") else None
        film = pysubs2.SSAFile.from_string(text, kind)
    lines: list[str] = []
    for event in film:
        if event.is_comment or event.is_drawing:
            continue
        for line in event.plaintext.split("\n"):
            line = line.strip()
            if film.format in ("srt", "vtt"):
                line = html.unescape(line)
            if line and line != (lines[-1] if lines else None):
                lines.append(line)
    if not lines:
        raise InputError(f"{path} has no subtitles: get the file again")
    yield from document_chunks("\n".join(lines))
