"""Where prepared texts and downloads are kept, and how a file gets there whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError, ResourceError
from ..format import format_bytes

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def cache_folder() -> Path:
    """`$SCRIVEN_CACHE`, else the user's cache folder; it need not exist."""
    chosen = os.environ.get("SCRIVEN_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "scriven"


def make_folder(folder: Path) -> Path:
    """The folder, made if needed.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be written ({error.strerror}):"
            " set SCRIVEN_CACHE to a folder that can"
        ) from error
    return folder


@contextlib.contextmanager
def disk_errors(
    folder: Path,
    needed: int,
    purpose: str,
    remedy: str = "set SCRIVEN_CACHE to a folder with more room",
) -> Iterator[None]:
    """Turns a full or unwritable disk into one line that says how much room is needed.

    Raises:
        ResourceError: the disk is full (or a quota or file size limit is reached).
        InputError: the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(folder).free
                needs = f"needs about {format_bytes(needed)}, " if needed else ""
                raise ResourceError(
                    f"disk full while {purpose}: {needs}{folder} has {format_bytes(free)} free; "
                    f"{remedy}"
                ) from error
        raise InputError(
            f"{purpose} failed in {folder} ({error.strerror or error}):"
            f" {remedy.replace(' with more room', '')}"
        ) from error


def sync_file(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until a folder's entries are on the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """A small file, written next to its place and moved there; a reader never sees half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
