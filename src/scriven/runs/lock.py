"""One process per run folder, so that two runs never write into each other's files.

The lock belongs to the process, so it ends with it, however it ends. The file beside it only says
who holds it. Knows nothing of what is in the folder.
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
        self._lock = FileLock(folder / NAME, thread_local=False)

    def __enter__(self) -> "RunLock":
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise BusyError(
                f"{printable(self.folder)} is in use by {_owner(self.folder)}: wait until it has "
                "finished or choose another folder with --out"
            ) from error
        except OSError as error:
            raise write_error(error, self.folder / NAME) from error
        try:
            self._sign()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _sign(self) -> None:
        about = {"pid": os.getpid(), "host": platform.node(), "since": int(time.time())}
        write_file(self.folder / OWNER, json.dumps(about).encode("ascii"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            (self.folder / OWNER).unlink()
        self._lock.release()


def _owner(folder: Path) -> str:
    """Who holds the folder, for a message; it may just have begun or ended."""
    try:
        about = json.loads((folder / OWNER).read_bytes()[:4096])
        return f"process {int(about['pid'])} on {printable(str(about['host'])[:100])}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return "another process"
