"""manifest.json: the size and the SHA-256 of every file of one folder, sealed.

Names in a manifest are looked up among the names really in the folder, never joined to a path.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DamagedError
from ..files import Buffer, Content, buffers, file_size, printable, read_error, read_file
from .sealed import parse_signed_json, release, signed_json

NAME = "manifest.json"
LONGEST = 1 << 20

Entry = tuple[int, str]
"""(size in bytes, SHA-256 in hex)"""


def entry(content: Content) -> Entry:
    """The size and digest of what is about to be written."""
    digest = hashlib.sha256()
    for piece in buffers(content):
        digest.update(piece)
    return sum(map(len, buffers(content))), digest.hexdigest()


def build(
    files: Mapping[str, Content], before: Mapping[str, Entry] | None = None, **about: int | str
) -> bytes:
    """The manifest of files that are about to be written.

    Args:
        files: name -> content.
        before: what files may still hold while they are being replaced one by one.
        about: what the folder is, such as its step; checked again when it is read.
    """
    parts: dict[str, Mapping[str, Entry]] = {
        "files": {name: entry(content) for name, content in files.items()}
    }
    if before:
        parts["before"] = before
    listed = {
        part: {name: {"size": size, "sha256": digest} for name, (size, digest) in entries.items()}
        for part, entries in parts.items()
    }
    return signed_json({"scriven": release(), **about, **listed})


def read(folder: Path, part: str = "files", **about: int | str) -> dict[str, Entry]:
    """The files of a folder as its manifest lists them; `part` may be `before` (see `build`).

    Raises:
        DamagedError: no whole manifest, or one that belongs to another folder; `about` names what
            it has to say of itself.
    """
    path = folder / NAME
    content = parse_signed_json(read_file(path, LONGEST), printable(path))
    for name, wanted in about.items():
        if content.get(name) != wanted:
            raise DamagedError(
                f"{printable(path)} belongs to {name} {content.get(name)}, not to {wanted}"
            )
    if part == "before" and part not in content:
        return {}
    return _entries(content.get(part), printable(path))


def read_checked(folder: Path, name: str, expected: Entry) -> bytearray:
    """The content of a listed file, checked.

    Raises:
        DamagedError: the file differs from the manifest; the text says how.
    """
    path = folder / name
    if name not in _present(folder):
        raise DamagedError(f"{printable(path)} is missing")
    _check_size(path, expected)
    content = read_file(path, expected[0])
    compare(content, expected, printable(path))
    return content


def compare(content: Buffer, expected: Entry, where: str) -> None:
    """Raises DamagedError unless a content is the listed one."""
    if len(content) != expected[0]:
        raise DamagedError(f"{where} has {len(content)} of {expected[0]} bytes")
    if hashlib.sha256(content).hexdigest() != expected[1]:
        raise DamagedError(f"{where} is damaged: its SHA-256 differs from {NAME}")


def verify(folder: Path, **about: int | str) -> dict[str, Entry]:
    """Checks every file of a folder against its manifest, without keeping any in memory.

    Raises:
        DamagedError: names the file and what differs.
    """
    listed = read(folder, "files", **about)
    present = _present(folder)
    for name, expected in listed.items():
        path = folder / name
        if name not in present:
            raise DamagedError(f"{printable(path)} is missing")
        _check_size(path, expected)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise read_error(path, error) from error
        if digest != expected[1]:
            raise DamagedError(f"{printable(path)} is damaged: its SHA-256 differs from {NAME}")
    return listed


def _check_size(path: Path, expected: Entry) -> None:
    try:
        size = file_size(path)
    except OSError as error:
        raise read_error(path, error) from error
    if size != expected[0]:
        raise DamagedError(f"{printable(path)} has {size} of {expected[0]} bytes")


def _present(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError as error:
        raise read_error(folder, error) from error


def _entries(files: Any, where: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    try:
        for name, listed in files.items():
            size, digest = listed["size"], listed["sha256"]
            if not isinstance(size, int) or not isinstance(digest, str):
                raise TypeError
            entries[name] = (size, digest)
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedError(f"{where} lists no files with sizes and digests") from error
    return entries
