"""JSON with a digest of itself inside: one flipped bit anywhere in the file is noticed.

The file must equal, byte for byte, what writing its own content again gives. So a change that the
parser would forgive (white space, `\\u00E9` for `\\u00e9`) is noticed as well.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

from ..errors import DamagedError
from ..format import format_bytes

FORMAT = 1
"""The newest format of our own files that this release reads, and the one it writes."""


class NewerFormatError(DamagedError):
    """An undamaged file, written by a later release."""


def release() -> str:
    """The version of this installation."""
    try:
        return importlib.metadata.version("scriven")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def signed_json(content: Mapping[str, Any]) -> bytes:
    """A JSON object as bytes, with the format version in front and the digest at the end."""
    body = {"format": FORMAT, **content}
    assert "digest" not in body, "the digest is ours"
    return _text({**body, "digest": _digest(body)}).encode("ascii")


def parse_signed_json(raw: bytes | bytearray, where: str) -> dict[str, Any]:
    """The inverse of `seal`; the digest is left out.

    Args:
        raw: the bytes of the file.
        where: how the file is named in messages.

    Raises:
        NewerError: a later release wrote the file; both versions are named.
        DamagedError: the bytes are not what was written.
    """
    if not raw:
        raise DamagedError(f"{where} is empty")
    try:
        content = json.loads(raw.decode("ascii"))
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise DamagedError(f"{where} is damaged: it has no format version")
        body = {name: value for name, value in content.items() if name != "digest"}
        whole = content.get("digest") == _digest(body) and _text(content).encode("ascii") == raw
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where} is damaged: not the JSON that was written") from error
    if content["format"] > FORMAT:
        by = content.get("scriven", "a later release")
        text = (
            f"{where} has format {content['format']} (written by {str(by)[:40]!r}); Scriven "
            f"{release()} reads up to format {FORMAT}: install a newer Scriven"
        )
        # A flipped bit can make a version look newer: only a whole file is believed.
        raise NewerFormatError(text) if whole else DamagedError(f"{text}, or the file is damaged")
    if not whole:
        raise DamagedError(f"{where} was changed after it was written ({format_bytes(len(raw))})")
    if content["format"] != FORMAT:
        raise DamagedError(f"{where} has format {content['format']}, which never existed")
    return body


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(body).encode("ascii")).hexdigest()
