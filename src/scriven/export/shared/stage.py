"""A folder that appears by one rename when everything in it is written and checked."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ...files import (
    REPLACED,
    TEMPORARY,
    make_folder,
    printable,
    remove_folder,
    remove_leftovers,
    sync_folder,
    write_error,
)

MARK = "export.json"
"""What an export says of itself; a folder with it may be replaced by another export."""


@contextlib.contextmanager
def stage(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` that becomes `out` at the end, and vanishes after an error.

    Raises:
        InputError: `out` holds something that is no export. ResourceError: the disk is full.
    """
    _check(out)
    make_folder(out.parent)
    remove_leftovers(out.parent)
    temporary = out.with_name(f"{TEMPORARY}{out.name[:50]}.new-{os.getpid()}")
    aside = out.with_name(REPLACED + out.name)
    try:
        try:
            temporary.mkdir()
            yield temporary
            assert (temporary / MARK).is_file()
            for path in sorted(temporary.iterdir()):
                _sync(path)
            sync_folder(temporary)
            if out.exists():
                remove_folder(aside)
                os.rename(out, aside)
            os.rename(temporary, out)
            sync_folder(out.parent)
            if aside.exists():
                remove_folder(aside)
        except OSError as error:
            raise write_error(error, out) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(out: Path) -> None:
    if not os.path.lexists(out):
        return
    mine = False
    if out.is_dir() and not out.is_symlink():
        if not any(out.iterdir()):
            return
        with contextlib.suppress(OSError, ValueError):
            mine = "exported" in json.loads((out / MARK).read_text(encoding="utf-8"))
    if not mine:
        raise InputError(
            f"{printable(out)} is there and is no export: choose another folder with --out"
        )


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())
