"""What the readers of all formats share: chunks of text, rows, and which format a file has.

A format is a file of this folder, found by being here. It has `SUFFIXES`, and for texts
`read(path, settings, start, end, ends_document)`, for tables `records(path, settings, columns)`.
`CUT_AT`, "word" or "line", says where a range of bytes may begin that is read alone; such a table
also takes `start` and `end`. A format that is called as a kind of `recognise.py` reads all files of
this kind, whatever their names. `CONTAINER` says that such files are archives inside, so that their
suffix decides where the content says no more. For the page of formats, `NAME` says what a user
calls them and `NEEDS` the extra that reads them.
"""

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ... import registry
from ...errors import InputError
from ...settings import DataSettings
from ...tokenizers import clean
from ..decoding import BLOCK, decode, strip_compression
from ..recognise import KINDS, REMEDIES, recognise

__all__ = ["Record", "TextChunk", "decode", "document_chunks", "split_lines"]

_CONTAINERS = {"archive", "compressed", "gzip", "office"}
"""Kinds of which the suffix may say more."""
LARGEST_ROW = 64 << 20
"""Characters of one row or line of a table; a larger one is a damaged or wrong file."""


class TextChunk(NamedTuple):
    """A part of a document, about a megabyte at most."""

    text: str
    ends: bool
    """Whether the document ends with this chunk."""
    skipped: str = ""
    """Why a row was left out, when this chunk stands for one that was (`skip_bad`)."""
    note: str = ""
    """What was changed of the text or decided about it, for the user; said once."""


class Record(NamedTuple):
    """One row of a table, whole."""

    values: dict[str, Any]
    """By column."""
    number: int
    """Of the row in its file, from 1."""
    skipped: str = ""
    """Why the row was left out (`skip_bad`); it has no values then."""


def read_documents(
    path: Path,
    settings: DataSettings,
    start: int = 0,
    end: int | None = None,
    ends_document: bool = True,
) -> Iterator[TextChunk]:
    """The documents of a file: of a table one for each row, from the column `text_column`.

    Args:
        start, end, ends_document: for the formats with `CUT_AT`, a range of bytes, and whether the
            document ends with it.

    Raises:
        InputError: the file cannot be read, or a row cannot be used.
        MissingExtra: a package for this format is not installed.
    """
    module = format_of(path, settings)
    if hasattr(module, "read"):
        yield from module.read(path, settings, start, end, ends_document)
        return
    column = settings.text_column
    for row in read_columns(path, settings, (column,), start, end):
        if row.skipped:
            yield TextChunk("", False, row.skipped)
        else:
            yield from document_chunks(row.values[column])


def read_columns(
    path: Path,
    settings: DataSettings,
    columns: Sequence[str],
    start: int = 0,
    end: int | None = None,
) -> Iterator[Record]:
    """The rows of a table, of which some columns must hold texts; raises as `read_documents`."""
    label = range_label(path, start)
    for record in read_rows(path, settings, columns, start, end):
        wrong = ""
        for column in () if record.skipped else columns:
            value = record.values.get(column)
            if column not in record.values and "." in column:
                value = "\n".join(nested_texts(record.values, column)) or None
                record.values.update({column: value} if value else {})
            if column not in record.values:
                wrong = missing_column(label, record.number, column, record.values, columns)
            elif not isinstance(value, str):
                kind = type(value).__name__
                wrong = f"{label} row {record.number}: {column!r} holds a {kind}, not a text"
            elif len(value) > LARGEST_ROW:
                wrong = f"{label} row {record.number}: {column!r} is too long"
            if wrong:
                record = Record({}, record.number, skip_or_raise(wrong, settings.skip_bad))
                break
        yield record


def nested_texts(value: Any, column: str) -> Iterator[str]:
    """The texts that a name with dots leads to, through objects and all objects of lists:
    `messages.content`."""
    if isinstance(value, list):
        for each in value:
            yield from nested_texts(each, column)
    elif not column:
        yield from [value] if isinstance(value, str) else []
    elif isinstance(value, dict):
        name, _, rest = column.partition(".")
        yield from nested_texts(value.get(name), rest)


def range_label(path: Path, start: int) -> Path:
    """How messages name a file that is read from a byte on: rows are counted from there."""
    return path if not start else path.with_name(f"{path.name} after byte {start:,}")


def read_rows(
    path: Path,
    settings: DataSettings,
    columns: Sequence[str] = (),
    start: int = 0,
    end: int | None = None,
) -> Iterator[Record]:
    """The rows of a table; all texts in them are as `clean_value` leaves them."""
    # only formats with CUT_AT know ranges
    bounds = () if end is None else (start, end)
    for record in format_of(path, settings).records(path, settings, columns, *bounds):
        yield record._replace(values=clean_value(record.values, settings))


def clean_value(value: Any, settings: DataSettings) -> Any:
    """A value of a row whose texts have no lone surrogates, and line ends as `data.newlines` says;
    such texts inside of lists and objects too."""
    if isinstance(value, str):
        text = clean(value)
        if "\r" in text and settings.newlines == "lf":
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text
    if isinstance(value, dict):
        return {
            clean_value(name, settings): clean_value(each, settings) for name, each in value.items()
        }
    if isinstance(value, list):
        return [clean_value(each, settings) for each in value]
    return value


def format_of(path: Path, settings: DataSettings = DataSettings()) -> ModuleType:  # noqa: B008
    """The module beside this one that reads a file: `data.format`, or by its content and suffix;
    what is not recognised is plain text.

    Raises:
        InputError: the content is of a kind that is not read, or cannot be read.
    """
    if settings.format is not None:
        return registry.module(__package__, settings.format, "format")
    by_suffix, kind = _format_of_suffix(strip_compression(path).suffix.lower()), None
    with contextlib.suppress(OSError):  # reading it will give the reason
        kind = recognise(path, by_name=by_suffix is None)
    if kind is None or kind == "binary":  # decoding says what is wrong with binary data
        return by_suffix or registry.module(__package__, "txt")
    # JSON lines begin as a document of one object does
    if kind == "json" and by_suffix is not None and ".jsonl" in by_suffix.SUFFIXES:
        return by_suffix
    if kind in _CONTAINERS and hasattr(by_suffix, "CONTAINER"):
        assert by_suffix is not None
        return by_suffix
    if kind in registry.names(__package__):
        return registry.module(__package__, kind)
    remedy = REMEDIES.get(kind, "convert it to text first")
    raise InputError(
        f"{path} is {KINDS[kind]}, not text: {remedy}, or read it as it is with --data.format=txt"
    )


def is_known(path: Path) -> bool:
    """Whether the suffix is one of a known format."""
    return strip_compression(path).suffix.lower() in known_formats()


def _format_of_suffix(suffix: str) -> ModuleType | None:
    """The module that reads a suffix: most have its name, so that no other is loaded."""
    if suffix[1:] in registry.names(__package__):
        module = registry.module(__package__, suffix[1:])
        if suffix in module.SUFFIXES:
            return module
    return known_formats().get(suffix)


@cache
def known_formats() -> dict[str, ModuleType]:
    """The modules of this folder by the suffixes they read."""
    modules = [registry.module(__package__, name) for name in registry.names(__package__)]
    return {suffix: module for module in modules for suffix in module.SUFFIXES}


def translate(blocks: Iterable[str], settings: DataSettings) -> Iterator[str]:
    """Blocks of text with line ends as `data.newlines` says."""
    if settings.newlines == "keep":
        yield from blocks
        return
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    for block in blocks:
        yield newlines.decode(block)
    yield newlines.decode("", final=True)


def split_lines(blocks: Iterable[str], path: Path) -> Iterator[str]:
    """Lines with their line feed, out of blocks of text; none may be longer than `LARGEST_ROW`."""
    rest, number, length = [""], 1, 0  # the line that is not complete yet, its number and length
    for block in blocks:
        parts = block.split("\n")
        rest.append(parts[0])  # joined once: a long line may span many blocks
        length += len(parts[0])
        if length > LARGEST_ROW:
            raise InputError(
                f"{path} row {number} is longer than {LARGEST_ROW >> 20} million characters:"
                " give such a text as a .txt file"
            )
        if len(parts) == 1:
            continue
        yield "".join(rest) + "\n"
        for part in parts[1:-1]:
            yield part + "\n"
        number += len(parts) - 1
        rest, length = [parts[-1]], len(parts[-1])
    if last := "".join(rest):
        yield last


def document_chunks(text: str) -> Iterator[TextChunk]:
    """One whole document in chunks."""
    if 0 < len(text) <= BLOCK:  # most are
        yield TextChunk(text, True)
        return
    for start in range(0, len(text), BLOCK):
        yield TextChunk(text[start : start + BLOCK], start + BLOCK >= len(text))


def skip_or_raise(message: str, skip: bool) -> str:
    """The reason why a row is left out; raised as an InputError if rows may not be skipped."""
    if not skip:
        raise InputError(f"{message} (--data.skip_bad leaves such rows out)")
    return message


def missing_column(
    path: Path, row: int, column: str, present: Iterable[str], needed: Sequence[str] = ()
) -> str:
    """The message for a row without the text column, or without one of several."""
    have = ", ".join(present) or "none"
    if len(needed) > 1:
        columns = " and ".join(needed)
        return f"{path} row {row} has no column {column!r}: it needs {columns}, and has {have}"
    return (
        f"{path} row {row} has no column {column!r}: choose with --data.text_column one of {have}"
    )
