"""Finding a run by what a person typed, and creating the folder of a new one.

A name is looked up among the runs that exist; only what was typed as a path is used as a path.
"""

import os
from difflib import get_close_matches
from pathlib import Path

from ..errors import InputError
from ..files import TEMPORARY, make_folder, printable, remove_leftovers, write_error, write_file
from . import lock, metadata

RUNS = Path("runs")


def list_runs(folder: Path = RUNS) -> dict[str, Path]:
    """Name -> folder of every run in `folder`, sorted by name."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    return {name: folder / name for name in names if os.path.isfile(folder / name / metadata.NAME)}


def find_run(run: str, folder: Path = RUNS) -> Path:
    """The run folder a person means.

    Args:
        run: a path, the name of a run in `folder`, or `latest`. The newest is the one created
            last according to its metadata; times of files do not count.
        folder: the folder of all runs.

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
        return max(known.values(), key=lambda path: (metadata.created(path), path.name))
    # 2. a path
    path = Path(run)
    if os.path.isfile(path / metadata.NAME):
        return path
    if run and os.path.exists(path):
        raise InputError(f"{printable(run)} is no run folder: it has no {metadata.NAME}")
    # 3. nothing: say what is near
    near = get_close_matches(run, known, 3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(printable(name) for name in near)}?"
    elif known:
        names = ", ".join(printable(name) for name in list(known)[:10])
        hint = f"there are {names}" + (", ..." if len(known) > 10 else "")
    else:
        hint = "there are no runs yet: scriven train FILE makes one"
    raise InputError(f"no run {printable(run[:300]) or repr(run)}: {hint}")


def create_run_dir(out: Path) -> Path:
    """Makes sure a run can be written to a folder, before any work is done.

    A link is followed here, once, so that a run cannot be torn apart by changing the link later.

    Args:
        out: a new or empty folder, or one that holds a run.

    Returns:
        The folder, which exists and can be written to; its real path where there is a link in it.

    Raises:
        InputError: it holds something else, is no folder, or cannot be made or written to.
        ResourceError: the disk is full.
    """
    where = printable(out)
    try:
        # exists() follows links, so both are asked
        if out.is_symlink() and not out.exists():
            raise InputError(f"{where} is a link to nothing: remove it or choose another --out")
        # 1. a folder that exists, behind all links
        real = out.resolve()
        if real.exists() and not real.is_dir():
            raise InputError(f"{where} is a file, not a folder: choose another --out")
        make_folder(real)
        names = os.listdir(real)
    except RuntimeError as error:  # how pathlib reports links in a circle
        raise InputError(f"{where} is a link in a circle: choose another --out") from error
    except ValueError as error:
        raise InputError(f"{where} cannot be the name of a folder: choose another --out") from error
    except OSError as error:
        raise write_error(error, out) from error
    # 2. new, empty, or a run already
    if metadata.NAME not in names and not all(_ours(name) for name in names):
        raise InputError(
            f"{where} is not empty and holds no run: choose a new or empty folder with --out"
        )
    # 3. it can be written to
    remove_leftovers(real)
    _probe(real)
    return out if real == Path(os.path.abspath(out)) else real


def _ours(name: str) -> bool:
    """Whether a new run folder may hold this before it has metadata."""
    return name.startswith(TEMPORARY) or name in (lock.NAME, lock.OWNER)


def _probe(folder: Path) -> None:
    """Writes a file: permission bits say nothing of read-only disks, quotas or root."""
    path = folder / ".scriven.probe"
    write_file(path, b"")
    try:
        path.unlink()
    except OSError as error:
        raise write_error(error, path) from error
