"""What a user names on the command line: files, folders, globs, `-` or a built-in corpus."""

import contextlib
import glob
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import BinaryIO

from .. import registry
from ..errors import InputError, ResourceError
from ..settings import DataSettings
from . import hub
from .compression import strip_compression
from .formats.base import TextChunk

_FORMATS = f"{__package__}.formats"
_CORPORA = f"{__package__}.corpora"


@dataclass(frozen=True)
class Source:
    """One file or corpus; `read` can be called again and again."""

    label: str
    read: Callable[[DataSettings], Iterator[TextChunk]]
    path: Path | None = None
    """Where it stands, if it is a file that stays."""


class Sources:
    """Sources by name, found when made and kept readable until closed.

    A bare name of a built-in corpus is the corpus; a file of that name needs a separator or a
    suffix (`./shakespeare`). Standard input and pipes are copied to a file, to be read twice.

    Args:
        names: as a user types them.
        kind: what is wanted, and the package of those that are built in: told when a name is
            nothing of the kind.

    Raises:
        InputError: a name that is nothing of the kind; the nearest ones are named.
    """

    def __init__(self, names: Sequence[str], kind: tuple[str, str] = ("corpora", _CORPORA)) -> None:
        if not names:
            raise InputError("no text given: name a file, a folder, or a built-in corpus")
        self._kind = kind
        self._open = contextlib.ExitStack()
        self.label = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        try:
            self.found = [source for name in names for source in self._find(name)]
        except BaseException:
            self._open.close()
            raise
        self.name = run_name(names)

    def read(self, settings: DataSettings) -> Iterator[TextChunk]:
        """All pieces of all sources, in order."""
        for source in self.found:
            yield from source.read(settings)

    def __enter__(self) -> "Sources":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def _find(self, name: str) -> list[Source]:
        if name == "-":
            return [self._spool(name, sys.stdin.buffer)]
        if name.startswith(hub.PREFIX):
            hub.parse(name)
            return [Source(name, partial(hub.read, name))]
        path = Path(name)
        corpus = registry.spelled(_CORPORA, name)
        if path.name == name and not path.suffix and corpus:
            return [Source(name, registry.module(_CORPORA, corpus).read)]
        with _readable(name):
            if path.is_dir():
                return _folder(path)
            if path.exists() and stat.S_ISFIFO(path.stat().st_mode):
                with path.open("rb") as pipe:
                    return [self._spool(name, pipe)]
            if path.is_file():
                return [_file(path)]
            if path.exists():
                raise InputError(f"{name} is neither a file nor a folder")
            if glob.has_magic(name):
                matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
                files = [match for match in matches if match.is_file()]
                if not files:
                    raise InputError(f"no file matches {name}: check the path before the first *")
                return [_file(match) for match in files]
        raise InputError(_missing(path, *self._kind))

    def _spool(self, name: str, stream: BinaryIO) -> Source:
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="scriven-")))
        copy = folder / "standard-input.txt"
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise ResourceError(
                f"{name} could not be copied to {folder} ({error.strerror}): set TMPDIR to a"
                " folder with more room"
            ) from error
        return Source(name, partial(_format(".txt").read, copy))


def _folder(path: Path) -> list[Source]:
    """The files of known formats below a folder, in the order of their paths."""
    known, found = _suffixes(), []
    for top, folders, files in os.walk(path):
        folders[:] = [each for each in folders if not each.startswith(".")]
        shown = [Path(top, name) for name in files if not name.startswith(".")]
        found += [file for file in shown if strip_compression(file).suffix.lower() in known]
    if not found:
        raise InputError(f"the folder {path} holds no text: known are {', '.join(sorted(known))}")
    return [_file(file) for file in sorted(found)]


def _file(path: Path) -> Source:
    return Source(
        str(path), partial(_format(strip_compression(path).suffix.lower()).read, path), path
    )


@cache
def _suffixes() -> dict[str, ModuleType]:
    modules = [registry.module(_FORMATS, name) for name in registry.names(_FORMATS)]
    return {suffix: each for each in modules for suffix in each.SUFFIXES}


def _format(suffix: str) -> ModuleType:
    """The reader of a suffix; an unknown one is read as plain text."""
    return _suffixes().get(suffix) or _suffixes()[".txt"]


def _missing(path: Path, kind: str, package: str) -> str:
    known = [name.replace("_", "-") for name in registry.names(package)]
    try:
        beside = [each.name for each in path.parent.iterdir()]
    except OSError:
        beside = []
    near = get_close_matches(path.name, [*beside, *known], 3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "check the path"
    return f"{path} does not exist: {hint} (built-in {kind}: {', '.join(known)})"


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name!r} cannot be read: {error}") from error


def run_name(names: Sequence[str]) -> str:
    """A folder name for a run: the file's stem, the folder, the corpus, or `stdin`."""
    first = names[0]
    if first == "-":
        stem = "stdin"
    elif first.startswith(hub.PREFIX):
        stem = Path(hub.parse(first).path).name
    elif glob.has_magic(first) and not Path(first).exists():
        stem = Path(first.split("*")[0].split("?")[0].split("[")[0]).name or "texts"
    else:
        path = Path(first).resolve()
        stem = path.name if path.is_dir() else strip_compression(path).stem
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:80] or "text"
    return name if len(names) == 1 else f"{name}-and-{len(names) - 1}-more"
