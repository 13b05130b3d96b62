"""Locks between processes, also on file systems that have none."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

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
