"""What a user names on the command line: files, folders, globs, `-` or a built-in corpus.

A built-in corpus is a file of `corpora/` with `read(settings) -> Iterator[TextChunk]`.
"""

import contextlib
import dataclasses
import glob
import itertools
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import BinaryIO

from .. import registry
from ..errors import InputError, ResourceError
from ..files import printable, temporary_folder
from ..format import plural, portable_name
from ..settings import DataSettings
from . import huggingface
from .decoding import decode, strip_compression
from .folders import FoundFiles, find_glob, find_in_folder
from .formats.base import (
    Record,
    TextChunk,
    document_chunks,
    format_of,
    read_columns,
    read_documents,
    read_rows,
    split_lines,
    translate,
)
from .shards import is_prepared

PAIR_COLUMNS = ("source", "target")
_CORPORA = f"{__package__}.corpora"


@dataclass(frozen=True)
class Source:
    """One file or corpus; `read` can be called again and again."""

    label: str
    read: Callable[[], Iterator[TextChunk]]
    path: Path | None = None
    """Where it is, if it is a file that stays."""
    copy: Path | None = None
    """Where the content of a stream was copied to."""
    settings: DataSettings | None = None
    """How it is read, where its name says more than the settings of all."""


class Sources(contextlib.ExitStack):
    """The files and corpora that names stand for, readable until closed.

    A bare name of a built-in corpus is the corpus; a file of that name needs a separator or a
    suffix (`./shakespeare`). Standard input and pipes are copied to a file, to be read twice.

    Args:
        names: as a user types them.
        settings: how the files are read, and which of a folder.
        kind: for the message about a name that stands for nothing: what was expected, and the
            package of those that are built in.

    Raises:
        InputError: a name that stands for nothing; the nearest ones are named.
    """

    def __init__(
        self,
        names: Sequence[str],
        settings: DataSettings = DataSettings(),  # noqa: B008
        kind: tuple[str, str] = ("corpora", _CORPORA),
    ) -> None:
        if not names:
            raise InputError("no text given: name a file, a folder, or a built-in corpus")
        for name in names:
            if "\n" in name.strip() and not os.path.exists(name):
                raise InputError(
                    f"{name.strip()[:40]!r}... is a text of {len(name):,} characters, not the "
                    "name of one: write it to a file and name that"
                )
        super().__init__()
        self.settings, self._kind = settings, kind
        self.notes: list[str] = []
        """What a user should know of the files: those that are passed over."""
        self._found = set[Path | None]()  # files of folders and patterns
        self.label = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        try:
            self.files = [source for name in names for source in self._find(name)]
        except BaseException:
            self.close()
            raise
        self.name = run_name(names)

    def read(self) -> Iterator[TextChunk]:
        """The text of all sources, in order."""
        for source in self.files:
            try:
                yield from source.read()
            except InputError as error:
                if source.path not in self._found:
                    raise
                raise InputError(f"{error} (--skip-bad-files leaves such files out)") from error

    def _find(self, name: str) -> list[Source]:
        if not name:  # of a variable that is not set; as a path it would be this folder
            raise InputError("a source is empty: name a file, or . for this folder")
        # 1. what is no path: standard input, a data set of the hub, a built-in corpus
        if name == "-":
            return [self._copy_stream(name, sys.stdin.buffer)]
        if name.startswith(huggingface.PREFIX):
            huggingface.parse_name(name)
            return [Source(name, partial(huggingface.read_dataset, name, self.settings))]
        path = Path(name)
        corpus = name.replace("-", "_")
        if corpus in registry.names(_CORPORA) and path.name == name and not path.suffix:
            return [Source(name, partial(registry.module(_CORPORA, corpus).read, self.settings))]
        if re.match(r"[a-z][a-z0-9+.-]+://", name, re.I):
            from .download import download_address

            path, note = download_address(name)
            self.notes.append(note)
        # 2. a path, or a pattern of paths
        found, settings = FoundFiles(), self.settings
        tables = self._kind[0] == "tables"
        try:
            if path.is_dir():
                found = find_in_folder(path, settings, tables=tables)
            elif path.is_file():
                found = FoundFiles([path])
            elif path.exists() and stat.S_ISFIFO(path.stat().st_mode):
                # a pipe can be read once, but scanning and encoding are two readings
                with path.open("rb") as pipe:
                    return [self._copy_stream(name, pipe)]
            elif path.exists():
                raise InputError(f"{printable(name)} is neither a file nor a folder")
            elif glob.has_magic(name):
                found = find_glob(name, settings, tables=tables)
        except (OSError, ValueError, RuntimeError) as error:  # a name that no path can have
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{printable(name[:100])} cannot be read: {reason}") from error
        # 3. a table inside of a file: FILE.db:TABLE.COLUMN
        if not found.paths:
            file, _, table = name.rpartition(":")
            if not (table and os.path.isfile(file)):
                raise InputError(_missing(path, *self._kind))
            table, _, column = table.partition(".")
            column = column or settings.text_column
            settings = dataclasses.replace(settings, table=table, text_column=column)
            read = partial(read_documents, Path(file), settings)
            return [Source(name, read, Path(file), settings=settings)]
        self.notes += found.notes
        self._found.update(found.paths if found.paths != [path] else ())
        files = [
            Source(str(path), partial(read_documents, path, settings), path) for path in found.paths
        ]
        # a file that was named itself is wanted
        return self._readable(files) if settings.skip_bad_files and len(files) > 1 else files

    def _readable(self, files: Sequence[Source]) -> list[Source]:
        """Those of the files that can be read to their end; says which cannot."""
        good, bad = [], list[str]()
        for file in files:
            assert file.path is not None
            try:
                is_table = self._kind[0] == "tables" and hasattr(format_of(file.path), "records")
                for _ in read_rows(file.path, self.settings) if is_table else file.read():
                    pass
            except InputError as error:
                bad.append(str(error))
            else:
                good.append(file)
        if not good:
            raise InputError(f"none of {len(files)} files can be read, first {bad[0]}")
        if bad:
            self.notes.append(
                f"{plural(len(bad), 'bad file')} left out:\n  " + "\n  ".join(bad[:9])
            )
        return good

    def _copy_stream(self, name: str, stream: BinaryIO) -> Source:
        folder = self.enter_context(temporary_folder())
        copy = folder / "standard-input.txt"
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise ResourceError(
                f"{name} could not be copied to {folder} ({error.strerror}): set TMPDIR to a"
                " folder with more room"
            ) from error
        return Source(name, partial(read_documents, copy, self.settings), copy=copy)


class PairSources(Sources):
    """Tables of pairs, or two texts whose lines are pairs: each pair becomes two documents."""

    def read(self) -> Iterator[TextChunk]:
        """Source, target, source, target ...; a pair with an empty side is skipped."""
        for pair in parallel_files(self.files, self.settings):
            label = " and ".join(file.label for file in pair)
            yield TextChunk("", False, note=f"{label} are read as pairs, line by line")
            yield from _pair_chunks(label, parallel_rows(pair, self.settings))
        if are_parallel(self.files, self.settings):
            return
        for file in self.files:
            rows = _pair_rows(file, self.settings)
            if rows is None:
                raise InputError(
                    f"{file.label} holds no pairs: give a .csv, .tsv, .jsonl or .parquet file with"
                    " the columns source and target, or two texts with a pair in each line, called"
                    " alike: NAME.de NAME.en"
                )
            yield from _pair_chunks(file.label, rows)


def _pair_chunks(label: str, rows: Iterable[Record]) -> Iterator[TextChunk]:
    for number, row in enumerate(rows, 1):
        # a model cannot read or learn nothing
        empty = [name for name in PAIR_COLUMNS if not row.values.get(name)]
        if row.skipped or empty:
            why = row.skipped or f"{label}: pair {number} has an empty {empty[0]}"
            yield TextChunk("", False, why)
        else:
            for name in PAIR_COLUMNS:
                yield from document_chunks(row.values[name])


def are_pairs(names: Sequence[str], settings: DataSettings) -> bool:
    """Whether all sources are tables with the columns `source` and `target`, or two texts whose
    lines are pairs."""
    for name in names:
        # a pipe can be read only once; a prepared folder holds token ids already
        if name == "-" or is_pipe(name) or is_prepared(Path(name)):
            return False
    with Sources(names, settings) as sources:
        if are_parallel(sources.files, settings):
            return True
        for file in sources.files:
            try:
                first = next(_pair_rows(file, settings) or iter(()), None)
            except InputError:
                return False
            if first is None or first.skipped:
                return False
    return True


def is_pipe(name: str) -> bool:
    """Whether a name is that of a pipe, which can be read only once."""
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except (OSError, ValueError):  # missing, or a name that no path can have
        return False


def are_parallel(files: Sequence[Source], settings: DataSettings) -> bool:
    """Whether these are two texts of as many lines, called alike (`train.de` and `train.en`), or
    two folders of such (`book.de/` and `book.en/`)."""
    return bool(parallel_files(files, settings))


def parallel_files(files: Sequence[Source], settings: DataSettings) -> list[tuple[Source, Source]]:
    """The two files of each pair of texts; empty where the files are no parallel texts."""
    half, odd = divmod(len(files), 2)
    pairs = list(zip(files[:half], files[half:], strict=False))
    if odd or not all(_called_alike(*pair, in_folders=half > 1) for pair in pairs):
        return []
    if any(map(_is_table, files)):
        return []
    counts = [sum(1 for _ in _lines(file, settings)) for file in files]
    return pairs if counts[:half] == counts[half:] else []


def _called_alike(first: Source, second: Source, in_folders: bool) -> bool:
    """Whether two paths differ in one suffix alone: that of the file, or that of a folder."""
    if first.path is None or second.path is None:
        return False
    paths = [strip_compression(file.path).parts for file in (first, second) if file.path]
    different = [each for each in itertools.zip_longest(*paths) if each[0] != each[1]]
    if len(different) != 1 or None in different[0]:
        return False
    one, other = map(Path, different[0])
    if in_folders and different[0] == (paths[0][-1], paths[1][-1]):
        return False
    return one.stem == other.stem and bool(one.suffix and other.suffix)


def _is_table(file: Source) -> bool:
    return file.path is not None and hasattr(format_of(file.path), "records")


def _lines(file: Source, settings: DataSettings) -> Iterator[str]:
    assert file.path is not None
    text = translate(decode(file.path, settings.encoding), settings)
    if not hasattr(format_of(file.path, settings), "CUT_AT"):  # a document, such as a Word file
        text = (chunk.text for chunk in file.read())
    return split_lines(text, file.path)


def parallel_rows(files: Sequence[Source], settings: DataSettings) -> Iterator[Record]:
    """The lines of two texts as rows with the columns `source` and `target`."""
    lines = zip(*(_lines(file, settings) for file in files), strict=True)
    for number, pair in enumerate(lines, 1):
        values = dict(zip(PAIR_COLUMNS, (line.rstrip("\r\n") for line in pair), strict=True))
        yield Record(values, number)


def _pair_rows(file: Source, settings: DataSettings) -> Iterator[Record] | None:
    """The pairs of a file; None where its format has no columns."""
    if file.path is None or not hasattr(format_of(file.path, settings), "records"):
        return None
    return read_columns(file.path, file.settings or settings, PAIR_COLUMNS)


def _missing(path: Path, kind: str, package: str) -> str:
    known = [name.replace("_", "-") for name in registry.names(package)]
    try:
        neighbours = [each.name for each in path.parent.iterdir()]
    except OSError:
        neighbours = []
    # a typo is most often in the last part of the path
    near = get_close_matches(path.name, [*neighbours, *known], 3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "check the path"
    return (
        f"{printable(str(path)[:200])} does not exist: {hint} (built-in {kind}: {', '.join(known)})"
    )


def run_name(names: Sequence[str]) -> str:
    """A folder name for a run: the file's stem, the folder, the corpus, or `stdin`."""
    first = names[0]
    if first == "-":
        stem = "stdin"
    elif first.startswith(huggingface.PREFIX):
        stem = Path(huggingface.parse_name(first).path).name
    elif glob.has_magic(first) and not os.path.exists(first):
        stem = Path(re.split(r"[*?[]", first)[0]).name or "texts"
    else:
        path = Path(os.path.abspath(first))
        stem = path.name if os.path.isdir(path) else strip_compression(path).stem
    name = portable_name(stem, "text")
    return name if len(names) == 1 else f"{name}-and-{len(names) - 1}-more"
