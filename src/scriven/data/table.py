"""Tables: rows with named columns from files, standard input, or a built-in table.

Rows are plain dicts, read one after the other, so a table may have any length. The tasks say what
their columns mean. A built-in table is a file of `tables/` with `COLUMNS` and
`read(part) -> Iterator[dict[str, Any]]` of the part "train", "validation" or "test".
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import registry
from ..errors import InputError
from ..settings import DataSettings
from .decoding import decode
from .formats.base import clean_value, format_of, read_rows, skip_or_raise, split_lines, translate
from .sources import Source, Sources, parallel_files, parallel_rows

TABLES = f"{__package__}.tables"


@dataclass(frozen=True)
class TableRow:
    """One row, and where it was read."""

    values: dict[str, Any]
    where: str
    """Such as `reviews.csv row 12`."""
    skipped: str = ""
    """Why it is left out (`skip_bad`); it has no values then."""

    def bad(self, why: str, settings: DataSettings) -> "TableRow":
        """This row as one that cannot be used; raises InputError if rows may not be skipped."""
        return TableRow({}, self.where, skip_or_raise(f"{self.where} {why}", settings.skip_bad))


def builtin(name: str) -> ModuleType | None:
    """The built-in table that a user calls `shakespeare-genre`; None where the name is none."""
    file = name.replace("-", "_")
    return registry.module(TABLES, file) if file in registry.names(TABLES) else None


class Table(contextlib.ExitStack):
    """One or several tables, read as one; use it in a `with` block.

    Args:
        names: files, folders, globs, `-` for JSON lines or a line of text each on standard input,
            or a built-in table.
        settings: encoding, and whether bad rows are skipped.
        part: of a built-in table: train, validation or test.

    Raises:
        InputError: a source that is no table, or does not exist.
    """

    def __init__(self, names: Sequence[str], settings: DataSettings, part: str = "train") -> None:
        super().__init__()
        self.settings, self.part = settings, part
        self.built_in = [name for name in names if builtin(name) is not None]
        # a file of this name needs a suffix or a separator, as with corpora
        rest = [name for name in names if builtin(name) is None]
        if self.built_in and rest:
            raise InputError(f"{self.built_in[0]} is built in: use it alone, or files alone")
        self.sources = None
        if not self.built_in:
            self.sources = self.enter_context(Sources(rest, settings, ("tables", TABLES)))
        self.label = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        self.name = self.built_in[0] if self.sources is None else self.sources.name

    def __iter__(self) -> Iterator[TableRow]:
        # 1. built-in tables
        for name in self.built_in:
            module: Any = builtin(name)
            for number, values in enumerate(module.read(self.part), 1):
                yield TableRow(values, f"{name} row {number}")
        files = self.sources.files if self.sources else []
        # 2. two texts called alike, such as train.de and train.en
        pairs = parallel_files(files, self.settings) if len(files) > 1 else []
        for pair in pairs:
            label = " and ".join(file.label for file in pair)
            for row in parallel_rows(pair, self.settings):
                yield TableRow(row.values, f"{label} line {row.number}")
        # 3. files with named columns
        for source in files if not pairs else ():
            yield from self._stream_rows(source) if source.path is None else self._file_rows(source)

    @property
    def notes(self) -> list[str]:
        """What a user should know of the files: those that are passed over."""
        return self.sources.notes if self.sources else []

    @property
    def columns(self) -> list[str]:
        """The columns of the first row; raises InputError if there is none."""
        for row in self:
            if not row.skipped:
                return [str(name) for name in row.values]
        raise InputError(f"{self.label} has no rows: give a table that has some")

    def _file_rows(self, source: Source) -> Iterator[TableRow]:
        path, settings = source.path, source.settings or self.settings
        assert path is not None
        if not hasattr(format_of(path, settings), "records"):
            # a table of tabs is often called .txt
            if settings.format is not None or not _has_tabs(path, settings):
                raise InputError(
                    f"{path} is no table: give a .csv, .tsv, .jsonl or .parquet file with named"
                    " columns, or say what it is with --data.format=csv"
                )
            settings = dataclasses.replace(settings, format="csv")
        # the row's number is that of the file, which an editor shows
        for record in read_rows(path, settings):
            yield TableRow(record.values, f"{path} row {record.number}", record.skipped)

    def _stream_rows(self, source: Source) -> Iterator[TableRow]:
        """Standard input: each line an object, or, where it is none, the column `text`."""
        texts: Iterator[str] = (chunk.text for chunk in source.read())
        if source.copy is not None:
            texts = translate(decode(source.copy, self.settings.encoding), self.settings)
        for number, line in enumerate(split_lines(texts, Path(source.label)), 1):
            if not line.strip():
                continue
            # a line that begins as an object must be one; any other line is a text
            row = TableRow({"text": line.rstrip("\n")}, f"line {number}")
            if line.lstrip().startswith("{"):
                try:
                    values = clean_value(json.loads(line), self.settings)
                    row = TableRow(values or row.values, row.where)
                except (ValueError, RecursionError) as error:
                    row = row.bad(f"is not JSON ({error})", self.settings)
            yield row


def _has_tabs(path: Path, settings: DataSettings) -> bool:
    """Whether the first lines of a text all have the same number of tabs."""
    lines = next(decode(path, settings.encoding), "").split("\n")[:6]
    counts = {line.count("\t") for line in lines[: max(1, len(lines) - 1)]}
    return len(counts) == 1 and counts != {0}


def fingerprint(rows: Sequence[dict[str, Any]]) -> str:
    """SHA-256 over the rows' contents."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
