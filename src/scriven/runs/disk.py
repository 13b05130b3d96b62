"""Small things about the disk: how a path or a size is named to a person, how a file is read.

Knows no format.
"""

import os
import stat
from pathlib import Path

from ..errors import DamagedError, InputError, ResourceError


def show(path: Path | str) -> str:
    """A path as it goes into a message: one line, quoted only if it has odd characters."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def size_text(size: int) -> str:
    """Bytes as a person reads them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def read(path: Path, most: int | None = None) -> bytearray:
    """The content of a regular file of ours, read once; what is checked is what is used.

    Args:
        path: the file.
        most: a longer file is refused before anything is allocated, in bytes.

    Raises:
        DamagedError: the file is missing, is no regular file, is too long or cannot be read.
        InputError: it may not be read by this user.
        ResourceError: there is not enough memory for it.
    """
    try:
        size = regular_size(path)
        if most is not None and size > most:
            raise DamagedError(f"{show(path)} has {size_text(size)}, at most {size_text(most)} fit")
        content = bytearray(size)
        with path.open("rb") as file:
            count = file.readinto(content)
        if count != size:
            raise DamagedError(f"{show(path)} changed while it was read: {count} of {size} bytes")
    except MemoryError as error:
        raise ResourceError(f"{show(path)} needs {size_text(size)} of memory") from error
    except OSError as error:
        raise unreadable(path, error) from error
    return content


def regular_size(path: Path) -> int:
    """The size of a regular file in bytes; a pipe or device would block whoever opens it."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError(f"{show(path)} is not a regular file")
    return status.st_size


def unreadable(path: Path, error: OSError) -> DamagedError | InputError:
    """The error for a file that could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return DamagedError(f"{show(path)} is missing")
    if isinstance(error, PermissionError):
        return InputError(f"{show(path)} may not be read by this user: change its permissions")
    return DamagedError(f"{show(path)} cannot be read: {error.strerror or error}")


def alive(process: int) -> bool:
    """Whether a process of this machine still runs; where that cannot be told, it does."""
    if os.name == "nt":  # there, signal 0 is not harmless
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
