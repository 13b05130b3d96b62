"""Token ids on disk: a plain array of 16- or 32-bit numbers, read without mapping it.

A mapped file that is cut while it is read kills the process (SIGBUS); a read only comes back short.
"""

import hashlib
import os
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from ..errors import DamagedError


def id_type(vocab_size: int) -> str:
    """The smallest storage that holds every id: `<u2` up to 65,536 ids, else `<u4`."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


class Shard:
    """The ids of one part of a corpus, in order.

    Raises:
        DamagedError: the file is missing or has another size than it was written with.
    """

    def __init__(self, path: Path, dtype: str, tokens: int) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._tokens = tokens
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise self._damaged("cannot be opened") from error
        self._seen = self._stamp()
        if self._seen[0] != tokens * self._dtype.itemsize:
            raise self._damaged(f"has {self._seen[0]} bytes, not {tokens * self._dtype.itemsize}")

    def __len__(self) -> int:
        return self._tokens

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Ids `start` .. `start + count - 1` as int64 of shape (count,).

        Raises:
            DamagedError: the file was cut or overwritten since it was opened.
        """
        found: npt.NDArray[np.int64] = self.windows(np.array([start]), count)[0]
        return found

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """Windows of `length` ids from several places: int64 of shape (len(starts), length).

        Raises:
            DamagedError: the file was cut or overwritten since it was opened.
        """
        assert length >= 0
        assert len(starts) == 0 or (min(starts) >= 0 and max(starts) + length <= self._tokens)
        found = np.empty((len(starts), length), dtype=self._dtype)
        width = self._dtype.itemsize
        for row, start in zip(found, starts, strict=True):
            self._fill(memoryview(row).cast("B"), int(start) * width)
        if self._stamp() != self._seen:
            raise self._damaged("was changed while in use")
        return found.astype(np.int64)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _fill(self, buffer: memoryview, offset: int) -> None:
        place = 0
        while place < len(buffer):
            part = os.pread(self._file.fileno(), len(buffer) - place, offset + place)
            if not part:
                raise self._damaged("was cut while in use")
            buffer[place : place + len(part)] = part
            place += len(part)

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{self.path} {what}: run the same command again to prepare it anew")


class ShardWriter:
    """Appends ids to a new file, and knows its digest at the end."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self.tokens = 0
        self._dtype = np.dtype(dtype)
        self._digest = hashlib.sha256()
        self._file = path.open("wb")

    def append(self, *ids: npt.NDArray[np.int32]) -> None:
        """Arrays of ids, each of shape (n,) and smaller than the storage type can hold."""
        stored = np.concatenate(ids, dtype=self._dtype, casting="unsafe")
        raw = stored.view(np.uint8).data
        self._file.write(raw)
        self._digest.update(raw)
        self.tokens += len(stored)

    def finish(self) -> dict[str, object]:
        """Puts the file on the disk; its entry in the manifest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        size = self.tokens * self._dtype.itemsize
        return {"size": size, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error there is nothing worth flushing, and a full disk would only fail again.
        try:
            self._file.close()
        except OSError:
            if error is None:
                raise
