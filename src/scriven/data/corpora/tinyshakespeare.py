"""Tiny Shakespeare (Karpathy 2015): the 1,115,394-character benchmark text, downloaded once.

An interrupted download is continued.
"""

import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from ...config import cache_folder
from ...errors import InputError
from ...files import disk_errors, file_lock, rename_durably
from ...manifest import FileEntry, hash_file
from ...settings import DataSettings
from ..formats import txt
from ..formats.base import TextChunk

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIZE = 1_115_394

_TIMEOUT = 30.0
_BLOCK = 1 << 16


def read(settings: DataSettings) -> Iterator[TextChunk]:
    """The text as one document."""
    # the file is known, whatever encoding the user's own texts have
    return txt.read(path(), DataSettings())


def path(url: str = URL) -> Path:
    """The downloaded file; raises as `download_corpus` does."""
    target = cache_folder() / "downloads" / "tinyshakespeare.txt"
    return download_corpus(url, target, SHA256, SIZE)


def download_corpus(url: str, target: Path, sha256: str, size: int) -> Path:
    """The file at `target`, downloaded unless it is there and whole.

    What has arrived stays beside it as `.part`, and the next attempt requests only the rest.

    Args:
        sha256: hexadecimal digest the content must have.
        size: bytes it must have; nothing longer is ever written.

    Raises:
        InputError: no network, no such file, interrupted, or another content than expected.
        ResourceError: the disk is full.
    """
    remedy = f"get the file yourself and give its path instead of {target.stem}"
    expected = FileEntry(size, sha256)
    with disk_errors(target, size, "set SCRIVEN_CACHE to a folder with more room"):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and hash_file(target) == expected:
            return target
        part = target.with_name(f"{target.name}.part")
        # 1. one process downloads, the others wait and find the file
        with file_lock(target.with_name(f"{target.name}.lock")):
            if target.exists() and hash_file(target) == expected:
                return target
            if _size(part) >= size:
                part.unlink()
            # 2. request what is missing
            try:
                _fetch(url, part, size)
            except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
                known = isinstance(error, urllib.error.HTTPError)  # its own text has the number
                reason = "" if known else getattr(error, "reason", "")
                reason = reason or str(error) or type(error).__name__
                raise InputError(f"{url} could not be downloaded ({reason}): {remedy}") from error
            # 3. keep it only if it is the expected file
            received = _size(part)
            if received < size:
                raise InputError(
                    f"{url} was cut after {received:,} of {size:,} bytes: run the same command"
                    f" again to continue, or {remedy}"
                )
            if hash_file(part) != expected:
                part.unlink()
                raise InputError(f"{url} is not the expected file: {remedy}")
            rename_durably(part, target)
    return target


def _fetch(url: str, part: Path, size: int) -> None:
    """Appends to `part` what is missing; never more than one byte beyond `size`."""
    have = _size(part)  # bytes of an attempt before
    request = urllib.request.Request(url, headers={"User-Agent": "scriven"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
        assert isinstance(response, HTTPResponse)
        if response.status != 206:  # the server starts from the beginning
            have = 0
        with part.open("ab") as file:
            file.truncate(have)  # a server without ranges sends everything again
            while have <= size and (block := response.read1(min(_BLOCK, size + 1 - have))):
                file.write(block)
                have += len(block)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
