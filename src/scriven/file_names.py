"""Names of files and folders that every file system takes, Windows' too."""

import os
import re
from pathlib import Path

from .errors import InputError
from .format import escape_control_characters

DEVICES = re.compile("con|prn|aux|nul|(?:com|lpt)[0-9¹²³]", re.I)
"""Names of devices of Windows, in any folder and with any suffix."""
ON_WINDOWS = os.name == "nt"


def portable_name(text: str, otherwise: str, length: int = 80) -> str:
    """A name that every file system takes, Windows' too, after a text of any kind.

    Args:
        otherwise: the name of a text that gives none, and the prefix of one that is reserved.
        length: characters at most; a file system counts bytes, of which a name may have 255.
    """
    name = re.sub(r"[^\w.-]+", "-", text).strip("-.")[:length]
    name = name.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore").strip("-.")
    if not name:
        return otherwise
    return f"{otherwise}-{name}" if reserved_on_windows(name) else name


def reserved_on_windows(name: str) -> str | None:
    """Why Windows gives no file or folder this name, or silently another; None where it does."""
    if DEVICES.fullmatch(name.partition(".")[0].strip()):
        return "it is the name of a device"
    if re.search(r'[<>:"|?*\x00-\x1f]', name):
        return '< > : " | ? * and control characters have other meanings'
    return "it ends in a dot or space" if name.rstrip(". ") != name else None


def check_name(path: Path) -> None:
    """Refuses a name that Windows would change or give to a device, where that is the system.

    Raises:
        InputError: says why.
    """
    reason = reserved_on_windows(path.name) if ON_WINDOWS else None
    if reason is not None:  # some of these names would be taken, and be those of something else
        where = escape_control_characters(str(path), keep="")
        raise InputError(
            f"{where} cannot be the name of a file or folder ({reason}): choose another"
        )
