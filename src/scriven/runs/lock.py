"""One process per run folder, so that two runs never write into each other's files.

The lock belongs to the process and ends with it, however it ends. The file beside it only says who
holds it.
"""

import contextlib
import json
import os
import platform
import time
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from ..errors import BusyError
from ..files import printable, write_error, write_file

NAME = ".scriven.lock"
OWNER = ".scriven.owner"


class RunLock:
    """Holds a run folder for the duration of a `with` block.

    Raises:
        BusyError: another process holds it; at once, with its number and its computer.
        InputError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # a lock of the process, not of the thread: any thread may release it
        self._lock = FileLock(folder / NAME, thread_local=False)

    def __enter__(self) -> "RunLock":
        try:
            # 1. the lock itself: the system releases it when the process ends
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise BusyError(
                f"{printable(self.folder)} is in use by {_owner(self.folder)}: wait until it has "
                "finished or choose another folder with --out"
            ) from error
        except OSError as error:
            raise write_error(error, self.folder / NAME) from error
        try:
            # 2. who holds it, for the message of the next process
            self._sign()
        # a full disk or Ctrl-C must not leave the folder locked
        except BaseException:
            self._lock.release()
            raise
        return self

    def _sign(self) -> None:
        owner = {"pid": os.getpid(), "host": platform.node(), "since": int(time.time())}
        write_file(self.folder / OWNER, json.dumps(owner).encode("ascii"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            # before the lock is released: afterwards it may belong to the next process
            (self.folder / OWNER).unlink()
        self._lock.release()


def _owner(folder: Path) -> str:
    """Who holds the folder, for a message; it may just have begun or ended."""
    try:
        owner = json.loads((folder / OWNER).read_bytes()[:4096])
        return f"process {int(owner['pid'])} on {printable(str(owner['host'])[:100])}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return "another process"
