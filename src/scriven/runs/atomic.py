"""Files and folders that are whole or absent, whenever the process is killed.

The order is always: write under a temporary name in the same folder, fsync, rename, fsync the
folder. The page cache survives a kill but not a power cut, so the rename may only be seen on disk
after the content is there, and a save is only reported after the rename is.

A failed fsync drops the unwritten pages, so it is never repeated on the same file: the whole save
is made again from the start. Knows no format.
"""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import InputError, ResourceError, ScrivenError
from .disk import alive, show, size_text

Buffer = bytes | bytearray | memoryview
Content = bytes | Sequence[Buffer]
"""What a file will hold: bytes, or pieces that are written one after the other without a copy."""

TEMPORARY = ".tmp-"
ASIDE = ".old-"
WAITS = (0.05, 0.2, 0.8)
"""Seconds before each new attempt after an error that may pass."""

_PASSING = {errno.EIO, errno.EINTR, errno.ESTALE}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LEFTOVER = re.compile(re.escape(TEMPORARY) + r".*-(\d{1,10})", re.DOTALL)
_busy: set[Path] = set()
"""Temporary names this process is using now; any other with its number is a leftover."""


def pieces(content: Content) -> Sequence[Buffer]:
    """A content as its pieces."""
    return [content] if isinstance(content, bytes) else content


def length(content: Content) -> int:
    """Bytes of a content."""
    return sum(len(piece) for piece in pieces(content))


def write_file(path: Path, content: Content) -> None:
    """Writes a file so that it is always the old one or the whole new one.

    Raises:
        ResourceError: the disk is full or broken; what was there before is untouched.
        InputError: the folder cannot be written to.
    """

    def attempt() -> None:
        with _temporary(path) as temporary:
            _write(temporary, content)
            os.replace(temporary, path)
            sync_folder(path.parent)

    _try(attempt, path, length(content))


def write_stream(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file of any length as its parts come; it appears whole, or not at all.

    Raises:
        ResourceError: the disk is full or broken; what was there before is untouched.
        InputError: the folder cannot be written to.
    """
    clean(path.parent, path.name)
    try:
        with _temporary(path) as temporary:
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except OSError as error:
        raise explain(error, path) from error


def write_folder(path: Path, files: Mapping[str, Content]) -> None:
    """Writes a flat folder of files, in their order, that appears by one rename.

    A folder already there is set aside as `.old-NAME` for the moment between two renames: a reader
    who finds no NAME takes that one.

    Raises:
        ResourceError: the disk is full or broken; what was there before is untouched.
        InputError: the folder cannot be written to.
    """

    def attempt() -> None:
        with _temporary(path) as temporary:
            os.mkdir(temporary)
            for name, content in files.items():
                _write(temporary / name, content)
            sync_folder(temporary)
            aside = path.with_name(ASIDE + path.name)
            if path.exists():
                discard(aside)
                os.rename(path, aside)
            os.rename(temporary, path)
            sync_folder(path.parent)
        if aside.exists():
            discard(aside)

    _try(attempt, path, sum(length(content) for content in files.values()))


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends, and is gone when it fails.

    For what has to be looked at before it counts. It has its last name already, inside another
    folder, so nobody looking through the folder above takes it for finished.

    Raises:
        ResourceError, InputError: as `write_file`; also when something has that name by then,
            unless it is an empty folder.
    """
    make_folder(path.parent)
    clean(path.parent)
    with _temporary(path) as temporary:
        try:
            os.makedirs(temporary / path.name)
        except OSError as error:
            raise explain(error, path) from error
        yield temporary / path.name
        try:
            sync_folder(temporary / path.name)
            if path.exists():
                os.rmdir(path)
            os.rename(temporary / path.name, path)
            sync_folder(path.parent)
        except OSError as error:
            raise explain(error, path) from error


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, if they are not there.

    Raises:
        ResourceError, InputError: as `write_file`.
    """

    def attempt() -> None:
        missing = [each for each in (path, *path.parents) if not each.exists()]
        os.makedirs(path, exist_ok=True)
        for each in missing:
            sync_folder(each.parent)

    _try(attempt, path, 0)


def discard(path: Path) -> bool:
    """Deletes a folder so that it is never seen half deleted; a failure is no reason to stop.

    Returns:
        Whether the folder is gone under its name.
    """
    with _temporary(path) as temporary:
        try:
            os.rename(path, temporary)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        with contextlib.suppress(OSError):
            sync_folder(path.parent)
    return True


def clean(folder: Path, name: str | None = None) -> None:
    """Removes what processes that died in the middle of a save have left in a folder: of all
    files, or of the one called `name`."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for each in names:
        found = _LEFTOVER.fullmatch(each)
        if found is None or folder / each in _busy:
            continue
        process = int(found[1])
        if name is not None and each != _temporary_name(name, process):
            continue
        if process == os.getpid() or not alive(process):
            _remove(folder / each)


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without folder sync
            raise
    finally:
        os.close(descriptor)


def explain(error: OSError, path: Path, size: int = 0) -> ScrivenError:
    """The error for a person when `path`, of `size` bytes, could not be written."""
    where = show(path)
    if error.errno in _FULL:
        try:
            free = size_text(shutil.disk_usage(path.parent).free)
        except OSError:
            free = "too little"
        return ResourceError(
            f"disk full: {where} needs {size_text(size)}, has {free}: free some space or choose "
            "another folder; what was saved before is intact"
        )
    reason = error.strerror or str(error)
    if error.errno in _PASSING:
        return ResourceError(
            f"{where} cannot be saved: {reason} ({len(WAITS) + 1} attempts): check the disk; what "
            "was saved before is intact"
        )
    return InputError(f"{where} cannot be written: {reason}: choose another folder with --out")


def _try(attempt: Callable[[], None], path: Path, size: int) -> None:
    for wait in (*WAITS, None):
        try:
            return attempt()
        except OSError as error:
            if wait is None or error.errno not in _PASSING:
                raise explain(error, path, size) from error
            time.sleep(wait)
    return None


def _temporary_name(name: str, process: int) -> str:
    # A name may have 255 bytes; the first 50 characters, of up to 4 bytes, say enough.
    return f"{TEMPORARY}{name[:50]}-{process}"


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A free temporary name beside `path`; whatever is still there at the end is removed."""
    temporary = path.with_name(_temporary_name(path.name, os.getpid()))
    _remove(temporary)
    _busy.add(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)
        _busy.discard(temporary)


def _write(path: Path, content: Content) -> None:
    """Writes and fsyncs a new file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        for piece in pieces(content):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        os.unlink(path)
