"""Files at `https://` addresses, kept in the cache with their checksums.

The network is reached only for an address that is named. What was downloaded once is used again,
also when a run is resumed; deleting the file in the cache fetches it anew.
"""

import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..config import cache_folder
from ..errors import DamagedError, InputError
from ..files import disk_errors, file_lock, temporary_beside, write_file
from ..format import format_bytes
from ..manifest import hash_file

LARGEST = 4 << 30
"""Bytes of a download."""
TIMEOUT = 30.0
"""Seconds without any data."""
SCHEMES = ("https",)
"""What an address and each of its redirections must begin with."""

_BLOCK = 1 << 16
_REMEDY = "download it yourself, and give the path of the file"
_SUFFIXES = {
    "application/epub+zip": ".epub",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/xhtml+xml": ".html",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
}
"""What a file is called whose address has no suffix."""


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirections to allowed addresses alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        _check_scheme(newurl, f"{req.full_url} leads to {newurl}: ")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download_address(address: str) -> tuple[Path, str]:
    """The downloaded file, and a sentence that has its size and checksum.

    Raises:
        InputError: another scheme than https, no network, no such file, a file that is cut off or
            larger than `LARGEST`.
        ResourceError: the disk is full.
    """
    _check_scheme(address, "")
    folder = cache_folder() / "downloads" / hashlib.sha256(address.encode()).hexdigest()[:24]
    record = folder / "download.json"
    with disk_errors(folder, remedy="set SCRIVEN_CACHE to a folder with more room"):
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".lock"):
            if not record.exists():
                facts = _fetch(address, folder)
                write_file(record, json.dumps(facts).encode())
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        path = folder / Path(facts["name"]).name
        if hash_file(path).sha256 != facts["sha256"]:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{folder} is not what was downloaded: delete it") from error
    size, digest = format_bytes(path.stat().st_size), facts["sha256"]
    return path, f"{address}: {size}, SHA-256 {digest}, kept as {path}"


def _check_scheme(address: str, where: str) -> None:
    try:
        scheme = urlsplit(address).scheme.lower()
    except ValueError as error:
        raise InputError(f"{address} is no address ({error}): {_REMEDY}") from error
    if scheme not in SCHEMES:
        raise InputError(
            f"{where or address + ': '}addresses must begin with {SCHEMES[0]}://; {_REMEDY}"
        )


def _fetch(address: str, folder: Path) -> dict[str, object]:
    """Downloads into a folder; nothing is left there of a download that fails."""
    request = urllib.request.Request(address, headers={"User-Agent": "scriven"})  # noqa: S310
    try:
        with urllib.request.build_opener(_SameScheme).open(request, timeout=TIMEOUT) as response:
            length = int(response.headers.get("Content-Length") or 0)
            if length > LARGEST:
                raise _too_large(address, length)
            name = _file_name(response.url, response.headers.get_content_type())
            digest, received = hashlib.sha256(), 0
            with temporary_beside(folder / name) as temporary, temporary.open("xb") as file:
                while block := response.read1(_BLOCK):
                    received += len(block)
                    if received > LARGEST:
                        raise _too_large(address, received)
                    digest.update(block)
                    file.write(block)
                if received < length:
                    raise InputError(
                        f"{address} was cut after {received:,} of {length:,} bytes: try again"
                    )
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, folder / name)
    except (http.client.HTTPException, TimeoutError, urllib.error.URLError, ConnectionError,
            ValueError) as error:  # fmt: skip
        is_status = isinstance(error, urllib.error.HTTPError)  # its own text has the number
        reason = "" if is_status else getattr(error, "reason", "")
        reason = " ".join(str(reason or error).split()) or type(error).__name__
        raise InputError(f"{address} could not be downloaded ({reason}): {_REMEDY}") from error
    return {"address": address, "name": name, "sha256": digest.hexdigest(), "bytes": received}


def _too_large(address: str, size: int) -> InputError:
    return InputError(
        f"{address} has {format_bytes(size)}, more than {format_bytes(LARGEST)}: {_REMEDY}"
    )


def _file_name(address: str, content_type: str) -> str:
    """A name for the file, of characters that every file system takes."""
    last = unquote(urlsplit(address).path).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.-]+", "-", last).strip("-.")[-80:] or "page"
    known = re.search(r"\.\w{1,8}$", name)
    return name if known else name + _SUFFIXES.get(content_type, "")
