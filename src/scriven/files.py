"""The one place that writes: files and folders that are whole or absent, whenever the process dies.

The order is always: write under a temporary name in the same folder, fsync, rename, fsync the
folder. The page cache survives a kill but not a power cut, so the rename may reach the disk only
after the content, and a save is reported only after the rename is on the disk.

    write_file, write_stream                 content that this process holds
    new_folder, rename_durably               content that another writer puts under a temporary name
    disk_errors, write_error                 an OSError as one line with its remedy
    file_lock                                a lock between processes

A failed fsync drops the unwritten pages (PostgreSQL's "fsyncgate", 2018), so it is never repeated
on the same file: the whole save is repeated from the start. Knows no file format.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from .errors import InputError, ResourceError, ScrivenError
from .format import check_name, escape_control_characters, format_bytes

Buffer = bytes | bytearray | memoryview
Content = bytes | Sequence[Buffer]
"""Content of a file: bytes, or buffers that are written one after the other without a copy."""

TEMPORARY = ".tmp-"
"""Begins the name of a file or folder that is being written: `.tmp-NAME-PID`."""
REPLACED = ".old-"
"""Begins the name of a folder that is being replaced: `.old-NAME`."""
RETRY_WAITS = (0.05, 0.2, 0.8)
"""Seconds before each new attempt after an error that may be transient."""
OTHER_FOLDER = "choose another folder with --out"

# a signal, or a network file system that is away for seconds
_TRANSIENT = {errno.EIO, errno.EINTR, errno.ESTALE}
# the disk, the user's quota, or the process's limit on file sizes
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY) + r"(.*)-(\d{1,10})", re.DOTALL)
_in_use: set[Path] = set()
"""Temporary names this process is using now; any other with its process id is a leftover."""


def write_file(path: Path, content: Content | Mapping[str, Content]) -> None:
    """Writes a file so that it is always the old one or the whole new one.

    Args:
        content: bytes; or of a flat folder, its files in their order. A folder already there is
            renamed to `.old-NAME` for the moment between two renames: a reader who finds no NAME
            takes that one.

    Raises:
        ResourceError: the disk is full or broken; what was there before is untouched.
        InputError: the folder cannot be written to.
    """
    files = content if isinstance(content, Mapping) else {"": content}
    for wait in (*RETRY_WAITS, None):
        try:
            # each attempt starts with new files: see fsync above
            with temporary_beside(path) as temporary:
                # 1. the content; mkdir fails where the name exists: two never fill one folder
                if files is content:
                    os.mkdir(temporary)
                for name, each in files.items():
                    _write(temporary / name, buffers(each))
                # 2. its name
                if files is content:
                    sync_folder(temporary)
                    _replace_folder(temporary, path)
                else:
                    os.replace(temporary, path)
                    sync_folder(path.parent)
            return
        except OSError as error:
            size = sum(len(one) for each in files.values() for one in buffers(each))
            _wait_or_raise(error, path, wait, size)


def write_stream(path: Path, parts: Iterable[Buffer]) -> None:
    """Writes a file of any length as its parts arrive; it appears whole, or not at all.

    The parts can be read only once, so nothing is tried again. Errors are those of `write_file`.
    """
    remove_leftovers(path.parent, path.name)
    with disk_errors(path), temporary_beside(path) as temporary:
        _write(temporary, parts)
        os.replace(temporary, path)
        sync_folder(path.parent)


def rename_durably(source: Path, path: Path) -> None:
    """Renames a complete file within its folder; its content is on the disk before its name."""
    sync_file(source)
    os.replace(source, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which becomes `path` when the block ends and vanishes if it fails.

    It has its final name already, inside a temporary folder: whoever lists the folder above does
    not take it for finished, and what is written may contain its name.

    Args:
        path: its parents are made. replace: whether a folder of this name may be replaced; an
            empty one always may.

    Raises:
        ResourceError, InputError: as `write_file`; an OSError of the block as well.
    """
    # 1. a folder of the same file system, so that the rename at the end is atomic
    make_folder(path.parent)
    remove_leftovers(path.parent)
    with disk_errors(path), temporary_beside(path) as temporary:
        # 2. the caller fills it
        inside = temporary / path.name
        os.makedirs(inside)
        yield inside
        # 3. other writers do not fsync: every file, then every folder, the innermost first
        for folder, _, names in os.walk(inside, topdown=False):
            for name in names:
                if not os.path.islink(os.path.join(folder, name)):
                    sync_file(Path(folder, name))
            sync_folder(Path(folder))
        # 4. everything is on the disk: give it its name; rmdir refuses a folder that is not empty
        if not replace and path.exists():
            os.rmdir(path)
        _replace_folder(inside, path)


def make_folder(path: Path, remedy: str = OTHER_FOLDER) -> None:
    """Makes a folder and its parents, if they are missing. Errors are those of `write_file`."""
    for wait in (*RETRY_WAITS, None):
        try:
            missing = [each for each in (path, *path.parents) if not each.exists()]
            os.makedirs(path, exist_ok=True)
            # the name of each new folder is an entry of the one above
            for each in missing:
                sync_folder(each.parent)
            return
        except OSError as error:
            _wait_or_raise(error, path, wait, remedy=remedy)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder for the length of the block; ResourceError where none can be made."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="scriven-")
    except OSError as error:
        raise ResourceError(
            f"no temporary folder can be made ({error.strerror or error}): set TMPDIR to a folder"
            " that can be written and has room"
        ) from error
    with folder as place:
        yield Path(place)


def remove_folder(path: Path) -> bool:
    """Deletes a folder so that it is never seen half deleted: whether it is gone under its name."""
    with temporary_beside(path) as temporary:
        try:
            # one rename, then a slow deletion that may be interrupted
            os.rename(path, temporary)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        with contextlib.suppress(OSError):
            sync_folder(path.parent)
    return True


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Removes from a folder what saves of dead processes left: of all files, or of `name` only."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for each in names:
        match = _TEMPORARY_NAME.fullmatch(each)
        if match is None or folder / each in _in_use:
            continue
        if name is not None and match[1] != name[:50]:
            continue
        # a process id may be reused: then the leftover stays until that process ends
        if int(match[2]) == os.getpid() or not is_running(int(match[2])):
            _remove(folder / each)


def sync_file(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with path.open("rb+" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk; Windows cannot open a folder for this."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without folder sync
            raise
    finally:
        os.close(descriptor)


def buffers(content: Content) -> Sequence[Buffer]:
    """A content as its buffers."""
    return [content] if isinstance(content, bytes) else content


@contextlib.contextmanager
def disk_errors(path: Path, size: int = 0, remedy: str = OTHER_FOLDER) -> Iterator[None]:
    """Raises an OSError of the block as the error of `write_error`."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path, size, remedy) from error


def write_error(
    error: OSError, path: Path, size: int = 0, remedy: str = OTHER_FOLDER
) -> ScrivenError:
    """The error to raise when `path` could not be written.

    Args:
        size: bytes it needs, 0 where that is unknown. remedy: what to do, an imperative.
    """
    where = printable(path)
    if error.errno in _DISK_FULL:
        try:
            # free space of the file system, which may have been unmounted by now
            free = format_bytes(shutil.disk_usage(path.parent).free)
        except OSError:
            free = "too little"
        needs = format_bytes(size) if size else "more space"
        return ResourceError(
            f"disk full: {where} needs {needs}, has {free}: free some space or {remedy}; what was "
            "saved before is intact"
        )
    reason = error.strerror or str(error)
    if error.errno in _TRANSIENT:
        return ResourceError(
            f"{where} cannot be saved: {reason} ({len(RETRY_WAITS) + 1} attempts): check the disk; "
            "what was saved before is intact"
        )
    return InputError(f"{where} cannot be written: {reason}: {remedy}")


def printable(path: Path | str) -> str:
    """A path as it goes into a message: in one line, without control characters."""
    return escape_control_characters(str(path), keep="")


def is_running(process: int) -> bool:
    """Whether a process of this machine still runs; where that cannot be known, it does."""
    if os.name == "nt":  # there, signal 0 is not harmless
        return True
    try:
        # signal 0 is not sent, only checked
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's, or no process id at all
        pass
    return True


def _wait_or_raise(
    error: OSError, path: Path, wait: float | None, size: int = 0, remedy: str = OTHER_FOLDER
) -> None:
    """Waits before the next attempt; raises where there is none, or where it would fail too."""
    if wait is None or error.errno not in _TRANSIENT:
        raise write_error(error, path, size, remedy) from error
    time.sleep(wait)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A free temporary name beside `path`; whatever is still there at the end is removed."""
    check_name(path)
    # a name may have 255 bytes; the first 50 characters have at most 200
    temporary = path.with_name(f"{TEMPORARY}{path.name[:50]}-{os.getpid()}")
    _remove(temporary)
    _in_use.add(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)
        _in_use.discard(temporary)


def _write(path: Path, parts: Iterable[Buffer]) -> None:
    """Writes and fsyncs a new file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:  # the system may write less than it was given
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Renames a complete folder to its name, after renaming the folder there to `.old-NAME`."""
    # no system call swaps two folders everywhere, so there is a moment without the name
    replaced = path.with_name(REPLACED + path.name)
    if path.exists():
        remove_folder(replaced)
        os.rename(path, replaced)
    # the content was synced by the caller, its name is synced here
    os.rename(temporary, path)
    sync_folder(path.parent)
    if replaced.exists():
        remove_folder(replaced)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        os.unlink(path)


TOKEN = ".token"  # noqa: S105 (the end of a name)
"""Ends the name of the file that stands for the lock where the file system has no locks."""

# network file systems without a lock service, FUSE, some container volumes
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock of a file, which the system releases however this process ends.

    On a file system without locks another file, `NAME.token`, stands for it while it exists. It
    holds the process and the computer: a dead process of this computer is replaced, one of
    another computer cannot be asked, so its token has to be deleted by hand.

    Args:
        wait: until it is free.

    Raises:
        Timeout: another process holds it, and `wait` is False.
        OSError: the file cannot be written.
    """
    timeout = -1 if wait else 0
    # a lock of the process, not of the thread: any thread may release it
    lock = FileLock(path, timeout=timeout, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
            raise
        lock = SoftFileLock(f"{path}{TOKEN}", timeout=timeout, thread_local=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
