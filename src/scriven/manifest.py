"""Reading with care: files of bounded size, JSON that carries its own digest, and manifest.json,
which lists the digests of a folder's files.

    {"format": 2, "scriven": "0.1.0", ..., "files": {name: {"size", "sha256"}}, "digest": ...}

`digest` is the SHA-256 of the same JSON without it, and a file must equal, byte for byte, what
writing its own content again gives: so every flipped bit is noticed, also one that a JSON parser
would forgive (white space, `\\u00E9` for `\\u00e9`). Names in a manifest are compared with
the names really in the folder, never joined to a path.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import __version__
from .errors import DamagedError, InputError, ResourceError
from .files import Content, buffers, printable
from .format import format_bytes

FORMAT = 2
"""The format of our own files that this release reads and writes."""
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20
"""Bytes of a manifest."""


class FileEntry(NamedTuple):
    """What a manifest says of one file."""

    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""


class NewerFormatError(DamagedError):
    """An undamaged file, written by a later release."""


def signed_json(content: Mapping[str, Any]) -> bytes:
    """A JSON object as bytes, with the format version in front and its digest at the end."""
    # the format comes first, so that a person sees it in the first line
    body = {"format": FORMAT, **content}
    assert "digest" not in body, "the digest is added here"
    return _dump({**body, "digest": hashlib.sha256(_dump(body)).hexdigest()})


def parse_signed_json(raw: bytes | bytearray, path: Path | str) -> dict[str, Any]:
    """The inverse of `signed_json`; the digest is left out.

    Args:
        raw: the bytes of the file.
        path: of the file, for messages.

    Raises:
        NewerFormatError: a later release wrote the file; both versions are named.
        DamagedError: the bytes are not what was written, or have an older format.
    """
    if not raw:
        raise DamagedError(f"{printable(path)} is empty")
    try:
        # 1. the digest, and the same bytes when it is written again
        content = json.loads(raw.decode("ascii"))
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise DamagedError(f"{printable(path)} is damaged: it has no format version")
        body = {name: value for name, value in content.items() if name != "digest"}
        digest = hashlib.sha256(_dump(body)).hexdigest()
        intact = content.get("digest") == digest and _dump(content) == raw
    except (ValueError, RecursionError) as error:
        raise DamagedError(
            f"{printable(path)} is damaged: not the JSON that was written"
        ) from error
    # 2. the format
    if content["format"] > FORMAT:
        by = content.get("scriven", "a later release")
        text = (
            f"{printable(path)} has format {content['format']} (written by {str(by)[:40]!r}); "
            f"Scriven {__version__} reads format {FORMAT}: install a newer Scriven"
        )
        # a flipped bit can make a version look newer: only an intact file is believed
        raise NewerFormatError(text) if intact else DamagedError(f"{text}, or the file is damaged")
    # 3. only now can the content be believed
    if not intact:
        raise DamagedError(
            f"{printable(path)} was changed after it was written ({format_bytes(len(raw))})"
        )
    if content["format"] < FORMAT:
        raise DamagedError(
            f"{printable(path)} has format {content['format']}, from before the first release; "
            f"Scriven {__version__} reads format {FORMAT}: train the model again"
        )
    return body


def file_entry(content: Content) -> FileEntry:
    """The entry of a file that is about to be written."""
    digest, size = hashlib.sha256(), 0
    for buffer in buffers(content):
        # hashlib releases the interpreter lock for large buffers
        digest.update(buffer)
        size += len(buffer)
    return FileEntry(size, digest.hexdigest())


def hash_file(path: Path) -> FileEntry:
    """The entry of a regular file as it is now, without keeping it in memory.

    Raises:
        DamagedError: it is missing, no regular file or cannot be read. InputError: not permitted.
    """
    try:
        # the size first: a file that was cut or grew is refused without reading it
        size = file_size(path)
        with path.open("rb") as file:
            # in blocks, through the page cache
            return FileEntry(size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise read_error(path, error) from error


def build_manifest(
    files: Mapping[str, Content],
    replacing: Mapping[str, FileEntry] | None = None,
    **identity: int | str,
) -> bytes:
    """The manifest of files that are about to be written.

    Args:
        files: name -> content.
        replacing: entries that the files may still match while they are replaced one by one.
        identity: what the folder is, such as its step; checked again when it is read.
    """
    listed = {"files": {name: file_entry(content)._asdict() for name, content in files.items()}}
    if replacing:
        listed["replacing"] = {name: entry._asdict() for name, entry in replacing.items()}
    return signed_json({"scriven": __version__, **identity, **listed})


def read_manifest(
    folder: Path, *, replacing: bool = False, **identity: int | str
) -> dict[str, FileEntry]:
    """The files of a folder as its manifest lists them.

    Args:
        replacing: whether to list the replaced files instead (see `build_manifest`).
        identity: what the manifest has to say of itself.

    Raises:
        DamagedError: the manifest is missing or damaged, or belongs to another folder.
    """
    path = folder / MANIFEST
    content = parse_signed_json(read_file(path, MANIFEST_LIMIT), path)
    # a whole checkpoint copied under another name is not that checkpoint
    for name, expected in identity.items():
        if content.get(name) != expected:
            raise DamagedError(
                f"{printable(path)} belongs to {name} {content.get(name)}, not to {expected}"
            )
    entries: dict[str, FileEntry] = {}
    try:
        listed = content.get("replacing", {}) if replacing else content["files"]
        # names are not trusted yet: _listed_path looks each up in the folder
        for name, each in listed.items():
            entries[name] = FileEntry(each["size"], each["sha256"])
            # a digest of another type would never equal one
            if list(map(type, entries[name])) != [int, str]:
                raise TypeError
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedError(f"{printable(path)} lists no files with sizes and digests") from error
    return entries


def read_listed(folder: Path, name: str, expected: FileEntry) -> bytearray:
    """The content of a listed file, read once and checked.

    Raises:
        DamagedError: the file differs from the manifest; the text says how.
    """
    path = _listed_path(folder, name, expected)
    content = read_file(path, expected.size)
    check_entry(file_entry([content]), expected, printable(path))
    return content


def verify_listed(folder: Path, name: str, expected: FileEntry) -> Path:
    """Checks a listed file without keeping it in memory; returns its path.

    Raises:
        DamagedError: the file differs from the manifest; the text says how.
    """
    path = _listed_path(folder, name, expected)
    check_entry(hash_file(path), expected, printable(path))
    return path


def check_entry(actual: FileEntry, expected: FileEntry, where: str) -> None:
    """Raises DamagedError unless a file is the listed one."""
    if actual.size != expected.size:
        raise DamagedError(f"{where} has {actual.size} of {expected.size} bytes")
    if actual.sha256 != expected.sha256:
        raise DamagedError(f"{where} is damaged: its SHA-256 differs from {MANIFEST}")


def check_types(content: object, where: str, kinds: Mapping[str, Any]) -> None:
    """Raises DamagedError unless `content` is an object with entries of these types."""
    for name, kind in kinds.items():
        value = content.get(name) if isinstance(content, dict) else None
        # a truth value is an int in Python, but no number in JSON
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise DamagedError(
                f"{where} is damaged: its entry {name!r} is missing or of another type"
            )


def verify_folder(folder: Path, **identity: int | str) -> dict[str, FileEntry]:
    """Checks every file of a folder against its manifest.

    Raises:
        DamagedError: names the file and what differs.
    """
    listed = read_manifest(folder, replacing=False, **identity)
    for name, expected in listed.items():
        verify_listed(folder, name, expected)
    return listed


def _listed_path(folder: Path, name: str, expected: FileEntry) -> Path:
    """The path of a listed file that is there and has the listed size."""
    path = folder / name
    try:
        # never joined to a path before it is known to be one of the names in the folder
        if name not in os.listdir(folder):
            raise DamagedError(f"{printable(path)} is missing")
        size = file_size(path)
    except OSError as error:
        raise read_error(path, error) from error
    if size != expected.size:
        raise DamagedError(f"{printable(path)} has {size} of {expected.size} bytes")
    return path


def _dump(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode("ascii")


def read_file(path: Path, limit: int | None = None) -> bytearray:
    """The content of a regular file, read once, so that what is checked is what is used.

    Args:
        limit: bytes; a longer file is refused before anything is allocated.

    Raises:
        DamagedError: the file is missing, is no regular file, is too long or cannot be read.
        InputError: this user may not read it.
        ResourceError: there is not enough memory for it.
    """
    size = 0
    try:
        size = file_size(path)
        if limit is not None and size > limit:
            raise DamagedError(
                f"{printable(path)} has {format_bytes(size)}, at most {format_bytes(limit)} fit"
            )
        # allocated once and read into: no second copy of a large file
        content = bytearray(size)
        with path.open("rb") as file:
            count = file.readinto(content)
    except MemoryError as error:
        raise ResourceError(f"{printable(path)} needs {format_bytes(size)} of memory") from error
    except OSError as error:
        raise read_error(path, error) from error
    if count != size:
        raise DamagedError(f"{printable(path)} changed while it was read: {count} of {size} bytes")
    return content


def file_size(path: Path) -> int:
    """The size of a regular file in bytes; DamagedError for a pipe or device, which would block."""
    # stat and not open: opening a pipe waits for a writer
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError(f"{printable(path)} is not a regular file")
    return status.st_size


def read_error(path: Path, error: OSError) -> DamagedError | InputError:
    """The error to raise when a file could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return DamagedError(f"{printable(path)} is missing")
    if isinstance(error, PermissionError):
        return InputError(f"{printable(path)} may not be read by this user: change its permissions")
    return DamagedError(f"{printable(path)} cannot be read: {error.strerror or error}")
