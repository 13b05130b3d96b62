"""The run folder: finding it by what a person typed, creating a new one, and holding it.

A name is searched among the runs that exist; only what was typed as a path is used as a path. One
process holds a run folder, so that two runs never write into each other's files.
"""

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from filelock import Timeout

from ..errors import BusyError, InputError
from ..files import (
    TEMPORARY,
    TOKEN,
    file_lock,
    make_folder,
    printable,
    remove_leftovers,
    write_error,
    write_file,
)
from ..format import check_name
from . import metadata

RUNS = Path("runs")
LOCK = ".scriven.lock"
OWNER = ".scriven.owner"
"""The file that says who holds the lock."""


def list_runs(folder: Path = RUNS) -> dict[str, Path]:
    """Name -> folder of every run in `folder`, sorted by name."""
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError):  # the second of a null character in the name
        return {}
    return {name: folder / name for name in names if os.path.isfile(folder / name / metadata.NAME)}


def find_run(run: str, folder: Path = RUNS) -> Path:
    """The run folder a person means.

    Args:
        run: a path, the name of a run in `folder`, or `latest`: of those made on this machine, if
            there are any.

    Raises:
        InputError: there is no such run; the text names near ones.
    """
    # runs are listed by their metadata file, so other folders do not count
    known = list_runs(folder)
    # 1. a name of the list
    if run in known:
        return known[run]
    if run == "latest":
        if not known:
            raise InputError(f"no runs in {printable(folder)} yet: scriven train FILE makes one")
        return max(known.values(), key=lambda path: (*metadata.age(path), path.name))
    # 2. a path
    path = Path(run)
    if os.path.isfile(path / metadata.NAME):
        return path
    if run and os.path.exists(path):
        raise InputError(f"{printable(run)} is no run folder: it has no {metadata.NAME}")
    # 3. nothing: say what is near, also beside the path
    known |= {str(place): place for place in list_runs(path.parent).values()}
    near = get_close_matches(run, known, 3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(printable(name) for name in near)}?"
    elif known:
        names = ", ".join(printable(name) for name in list(known)[:10])
        hint = f"there are {names}" + (", ..." if len(known) > 10 else "")
    else:
        hint = "there are no runs yet: scriven train FILE makes one"
    raise InputError(f"no run {printable(run[:300]) or repr(run)}: {hint}")


def split_step(name: str) -> tuple[str, int | None]:
    """A run and the step of a checkpoint, as in `book@1200`; None for its best weights."""
    run, at, step = name.rpartition("@")
    if at and run and step.isascii() and step.isdigit() and not os.path.exists(name):
        return run, int(step[:18])
    return name, None


def create_run_dir(out: Path) -> Path:
    """Makes sure a run can be written to a folder, before any work is done.

    Args:
        out: a new or empty folder, or one that holds a run.

    Returns:
        The folder; its real path where there is a link in it, so that a run cannot be torn apart by
        changing the link later.

    Raises:
        InputError: it holds something else, is no folder, or cannot be made or written to.
        ResourceError: the disk is full.
    """
    check_name(out)
    try:
        # exists() follows links, so both are asked
        if out.is_symlink() and not out.exists():
            raise InputError(
                f"{printable(out)} is a link to nothing: remove it or choose another --out"
            )
        # 1. a folder that exists, behind all links
        real = out.resolve()
        if real.exists() and not real.is_dir():
            raise InputError(f"{printable(out)} is a file, not a folder: choose another --out")
        make_folder(real)
        names = os.listdir(real)
    except RuntimeError as error:  # how pathlib reports links in a circle
        raise InputError(f"{printable(out)} is a link in a circle: choose another --out") from error
    except ValueError as error:
        raise InputError(
            f"{printable(out)} cannot be the name of a folder: choose another --out"
        ) from error
    except OSError as error:
        raise write_error(error, out) from error
    # 2. new, empty, or a run already; a run that has just begun has no metadata yet
    others = [name for name in names if not name.startswith(TEMPORARY)]
    if metadata.NAME not in names and not {LOCK, LOCK + TOKEN, OWNER}.issuperset(others):
        raise InputError(
            f"{printable(out)} is not empty and holds no run: choose a new or empty folder "
            "with --out"
        )
    # 3. permission bits say nothing of read-only disks, quotas or root: write a file
    remove_leftovers(real)
    probe = real / f"{TEMPORARY}probe-{os.getpid()}"  # removed by the next process after a kill
    write_file(probe, b"")
    try:
        probe.unlink()
    except OSError as error:
        raise write_error(error, probe) from error
    return out if real == Path(os.path.abspath(out)) else real


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Holds a run folder for the duration of a `with` block; the lock ends with the process.

    Raises:
        BusyError: another process holds it; at once, with its number and its computer.
        InputError: the folder cannot be written to.
    """
    with contextlib.ExitStack() as held:
        # 1. the lock itself: the system releases it when the process ends
        try:
            held.enter_context(file_lock(folder / LOCK, wait=False))
        except Timeout as error:
            raise BusyError(
                f"{printable(folder)} is in use by {_owner(folder)}: wait until it has finished or "
                "choose another folder with --out"
            ) from error
        except OSError as error:
            raise write_error(error, folder / LOCK) from error
        # 2. who holds it, for the message of the next process
        remove_leftovers(folder)
        try:
            owner = {"pid": os.getpid(), "host": platform.node(), "since": int(time.time())}
            write_file(folder / OWNER, json.dumps(owner).encode("ascii"))
            yield
        finally:
            # before the lock is released: afterwards the file may belong to the next process
            with contextlib.suppress(OSError):
                (folder / OWNER).unlink()


def training_process(folder: Path) -> int | None:
    """The process on this computer that trains a run now; None where none does."""
    try:
        with file_lock(folder / LOCK, wait=False):
            return None
    except Timeout:
        pass
    except OSError:  # a folder that cannot be written to is not being trained
        return None
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        owner = json.loads((folder / OWNER).read_bytes()[:4096])
        if owner["host"] == platform.node() and isinstance(owner["pid"], int) and owner["pid"] > 1:
            return owner["pid"]
    return None


def _owner(folder: Path) -> str:
    """Who holds the folder, for a message; it may just have begun or ended."""
    try:
        owner = json.loads((folder / OWNER).read_bytes()[:4096])
        return f"process {int(owner['pid'])} on {printable(str(owner['host'])[:100])}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return "another process"
