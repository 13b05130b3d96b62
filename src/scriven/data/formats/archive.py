"""Archives (zip, tar): what they hold is read like a folder, and archives inside of them too.

An archive is unpacked into a temporary folder for the length of a reading. Links, devices and
names that lead out of the folder are never followed or written.
"""

import contextlib
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NamedTuple

from ...errors import InputError, ScrivenError
from ...files import disk_errors, temporary_folder
from ...settings import DataSettings
from ..decoding import read_head
from ..documents import LARGEST_PART, MOST_PARTS, copy_bounded, copy_limit, plain_file, reading
from ..folders import find_in_folder
from .base import Record, TextChunk, format_of, read_documents

SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tzst")
NAME = "archives of other files"
CONTAINER = True

DEEPEST = 3
"""Archives inside of archives."""


class _Member(NamedTuple):
    name: str
    open: Callable[[], IO[bytes]]


def read(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The texts of the files in an archive, in the order of their names.

    Raises:
        InputError: damaged, encrypted, too large or too deep, with names that lead out of it, or
            without a text.
    """
    for member, label, notes in _files(path, settings, str(path), 1):
        yield from (TextChunk("", False, note=note) for note in notes)
        if member is not None:
            with _relabelled(member, label):
                for chunk in read_documents(member, settings):
                    wrong = chunk.skipped.replace(str(member), label)
                    yield chunk._replace(skipped=wrong) if wrong else chunk


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """The rows of all tables in an archive; raises as `read`."""
    has_tables = False
    for member, label, _ in _files(path, settings, str(path), 1):
        module = None if member is None else format_of(member, settings)
        if member is not None and module is not None and hasattr(module, "records"):
            has_tables = True
            with _relabelled(member, label):
                yield from module.records(member, settings, columns)
    if not has_tables:
        raise InputError(f"{path} holds no tables: give one with .csv, .jsonl or other tables")


def _files(
    path: Path, settings: DataSettings, label: str, depth: int
) -> Iterator[tuple[Path | None, str, list[str]]]:
    """The files to read in an archive and in those that it holds, and how messages name them.

    None stands for no file, where there are notes alone.
    """
    if depth > DEEPEST:
        raise InputError(f"{label} lies in {DEEPEST} other archives: unpack it first")
    with temporary_folder() as folder:
        left_out = _unpack(path, folder, label)
        try:
            found = find_in_folder(folder, settings)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), label)) from error
        notes = [note.replace(str(folder), label) for note in found.notes]
        if left_out:
            notes.append(f"{label}: {left_out} links and devices are passed over")
        yield None, label, notes
        for member in found.paths:
            inner = f"{label}/{member.relative_to(folder).as_posix()}"
            if format_of(member, settings).__name__ == __name__:
                yield from _files(member, settings, inner, depth + 1)
            else:
                yield member, inner, []


@contextlib.contextmanager
def _relabelled(member: Path, label: str) -> Iterator[None]:
    """Errors of the block name a file as it is called in its archive."""
    try:
        yield
    except ScrivenError as error:
        error.args = (str(error).replace(str(member), label),)
        raise


def _unpack(path: Path, folder: Path, label: str) -> int:
    """Writes the regular files of an archive into a folder; how many other members there are."""
    left = copy_limit(path)
    others = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(reading(Path(label), "an archive"))
        stack.enter_context(disk_errors(folder, remedy="set TMPDIR to a folder with more room"))
        file = stack.enter_context(plain_file(path))
        # a tar whose last file is a zip would look like one from its end
        members = _zip_members if read_head(file, 2) == b"PK" else _tar_members
        for count, member in enumerate(members(file, label, stack), 1):
            if count > MOST_PARTS:
                raise InputError(f"{label} has more than {MOST_PARTS:,} files: unpack it first")
            if member is None:
                others += 1
                continue
            name = PurePosixPath(member.name.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
                raise InputError(f"{label}: the name {member.name!r} leads out of the archive")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # of two files of one name, the second counts
            with member.open() as source:
                left -= copy_bounded(source, target, left, label)
    return others


def _zip_members(file: Path, label: str, stack: contextlib.ExitStack) -> Iterator[_Member | None]:
    container = stack.enter_context(zipfile.ZipFile(file))
    for part in container.infolist():
        kind = stat.S_IFMT(part.external_attr >> 16)
        if part.is_dir():
            continue
        if part.flag_bits & 1:
            raise InputError(f"{label} is encrypted: unpack it first")
        if kind not in (0, stat.S_IFREG):
            yield None
        elif not _is_hidden(part.filename):
            yield _Member(part.filename, lambda part=part: container.open(part))  # type: ignore[misc]


def _tar_members(file: Path, label: str, stack: contextlib.ExitStack) -> Iterator[_Member | None]:
    raw = stack.enter_context(file.open("rb"))
    bounded: Any = _Bounded(raw)
    container = stack.enter_context(tarfile.TarFile(fileobj=bounded))
    while (part := container.next()) is not None:
        container.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory
        if part.isdir():
            continue
        if not part.isreg() or part.issparse():
            yield None
        elif not _is_hidden(part.name):
            yield _Member(part.name, lambda part=part: _content(container, part))  # type: ignore[misc]


def _content(container: tarfile.TarFile, part: tarfile.TarInfo) -> IO[bytes]:
    content = container.extractfile(part)
    assert content is not None
    return content


def _is_hidden(name: str) -> bool:
    """Whether a file is passed over in any folder; those are not written at all."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return not parts or hidden or "__MACOSX" in parts


class _Bounded:
    """A file of which nothing larger than `LARGEST_PART` is read at once: the header of a tar says
    how long it is itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_PART:
            raise ValueError("a header is too large")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
