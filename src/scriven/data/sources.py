"""What a user names on the command line: files, folders, globs, `-` or a built-in corpus.

A built-in corpus is a file of `corpora/` with `read(settings) -> Iterator[TextChunk]`.
"""

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
from functools import partial
from pathlib import Path
from typing import BinaryIO

from .. import registry
from ..errors import InputError, ResourceError
from ..settings import DataSettings
from . import huggingface
from .formats.base import (
    COMPRESSED,
    Record,
    TextChunk,
    document_chunks,
    format_of,
    is_known,
    known_formats,
    read_columns,
    read_documents,
    strip_compression,
)
from .shards import is_prepared

PAIR_COLUMNS = ("source", "target")
_CORPORA = f"{__package__}.corpora"


@dataclass(frozen=True)
class Source:
    """One file or corpus; `read` can be called again and again."""

    label: str
    read: Callable[[DataSettings], Iterator[TextChunk]]
    path: Path | None = None
    """Where it is, if it is a file that stays."""


class Sources(contextlib.ExitStack):
    """The files and corpora that names stand for, readable until closed.

    A bare name of a built-in corpus is the corpus; a file of that name needs a separator or a
    suffix (`./shakespeare`). Standard input and pipes are copied to a file, to be read twice.

    Args:
        names: as a user types them.
        kind: for the message about a name that stands for nothing: what was expected, and the
            package of those that are built in.

    Raises:
        InputError: a name that stands for nothing; the nearest ones are named.
    """

    def __init__(self, names: Sequence[str], kind: tuple[str, str] = ("corpora", _CORPORA)) -> None:
        if not names:
            raise InputError("no text given: name a file, a folder, or a built-in corpus")
        super().__init__()
        self._kind = kind
        self.label = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        try:
            self.files = [source for name in names for source in self._find(name)]
        except BaseException:
            self.close()
            raise
        self.name = run_name(names)

    def read(self, settings: DataSettings) -> Iterator[TextChunk]:
        """The text of all sources, in order."""
        for source in self.files:
            yield from source.read(settings)

    def _find(self, name: str) -> list[Source]:
        # 1. what is no path: standard input, a data set of the hub, a built-in corpus
        if name == "-":
            return [self._copy_stream(name, sys.stdin.buffer)]
        if name.startswith(huggingface.PREFIX):
            huggingface.parse_name(name)
            return [Source(name, partial(huggingface.read_dataset, name))]
        path = Path(name)
        corpus = registry.find_module(_CORPORA, name)
        if path.name == name and not path.suffix and corpus:
            return [Source(name, registry.module(_CORPORA, corpus).read)]
        # 2. a path, or a pattern of paths
        paths = []
        try:
            if path.is_dir():
                paths = _files_below(path)
            elif path.is_file():
                paths = [path]
            elif path.exists() and stat.S_ISFIFO(path.stat().st_mode):
                # a pipe can be read once, but scanning and encoding are two readings
                with path.open("rb") as pipe:
                    return [self._copy_stream(name, pipe)]
            elif path.exists():
                raise InputError(f"{name} is neither a file nor a folder")
            elif glob.has_magic(name):
                matches = map(Path, sorted(glob.glob(name, recursive=True)))
                paths = [match for match in matches if match.is_file()]
                if not paths:
                    raise InputError(f"no file matches {name}: check the path before the first *")
        except (OSError, ValueError, RuntimeError) as error:  # a name that no path can have
            raise InputError(f"{name!r} cannot be read: {error}") from error
        if not paths:
            raise InputError(_missing(path, *self._kind))
        return [Source(str(path), partial(read_documents, path), path) for path in paths]

    def _copy_stream(self, name: str, stream: BinaryIO) -> Source:
        folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="scriven-")))
        copy = folder / "standard-input.txt"
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise ResourceError(
                f"{name} could not be copied to {folder} ({error.strerror}): set TMPDIR to a"
                " folder with more room"
            ) from error
        return Source(name, partial(read_documents, copy))


class PairSources(Sources):
    """Tables of pairs: each row becomes two documents, source and target."""

    def read(self, settings: DataSettings) -> Iterator[TextChunk]:
        """Source, target, source, target ...; a pair with an empty side is skipped."""
        for file in self.files:
            rows = _pair_rows(file, settings)
            if rows is None:
                raise InputError(
                    f"{file.label} holds no pairs: give a .csv, .tsv, .jsonl or .parquet file with "
                    "the columns source and target"
                )
            for number, row in enumerate(rows, 1):
                # a model cannot read or learn nothing
                empty = [name for name in PAIR_COLUMNS if not row.values.get(name)]
                if row.skipped or empty:
                    why = row.skipped or f"{file.path}: pair {number} has an empty {empty[0]}"
                    yield TextChunk("", False, why)
                else:
                    for name in PAIR_COLUMNS:
                        yield from document_chunks(row.values[name])


def are_pairs(names: Sequence[str], settings: DataSettings) -> bool:
    """Whether all sources are tables with the columns `source` and `target`."""
    for name in names:
        if name == "-" or Path(name).is_fifo() or is_prepared(Path(name)):
            return False  # can be read only once, or holds token ids already
    with Sources(names) as sources:
        for file in sources.files:
            try:
                first = next(_pair_rows(file, settings) or iter(()), None)
            except InputError:
                return False
            if first is None or first.skipped:
                return False
    return True


def _pair_rows(file: Source, settings: DataSettings) -> Iterator[Record] | None:
    """The pairs of a file; None where its format has no columns."""
    path = file.path
    if path is None or path.suffix.lower() in COMPRESSED or not hasattr(format_of(path), "records"):
        return None
    return read_columns(path, settings, PAIR_COLUMNS)


def _files_below(folder: Path) -> list[Path]:
    """The files of known formats below a folder, in the order of their paths."""
    paths = []
    for top, folders, names in os.walk(folder):
        # in place, so that os.walk does not enter .git and the like
        folders[:] = [each for each in folders if not each.startswith(".")]
        visible = [Path(top, name) for name in names if not name.startswith(".")]
        paths += [path for path in visible if is_known(path)]
    if not paths:
        known = ", ".join(sorted(known_formats()))
        raise InputError(f"the folder {folder} holds no text: known are {known}")
    return sorted(paths)


def _missing(path: Path, kind: str, package: str) -> str:
    known = [name.replace("_", "-") for name in registry.names(package)]
    try:
        neighbours = [each.name for each in path.parent.iterdir()]
    except OSError:
        neighbours = []
    # a typo is most often in the last part of the path
    near = get_close_matches(path.name, [*neighbours, *known], 3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "check the path"
    return f"{path} does not exist: {hint} (built-in {kind}: {', '.join(known)})"


def run_name(names: Sequence[str]) -> str:
    """A folder name for a run: the file's stem, the folder, the corpus, or `stdin`."""
    first = names[0]
    if first == "-":
        stem = "stdin"
    elif first.startswith(huggingface.PREFIX):
        stem = Path(huggingface.parse_name(first).path).name
    elif glob.has_magic(first) and not Path(first).exists():
        stem = Path(re.split(r"[*?[]", first)[0]).name or "texts"
    else:
        path = Path(first).resolve()
        stem = path.name if path.is_dir() else strip_compression(path).stem
    # a name that every file system takes
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:80] or "text"
    return name if len(names) == 1 else f"{name}-and-{len(names) - 1}-more"
