"""JSON documents: each object of an array is a row, and so a document.

An array may be larger than memory. Of an object, the rows are its one list of objects, as in
`{"version": 1, "data": [...]}`; an object without such a list is one row.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...settings import DataSettings
from ..decoding import decode
from ..documents import whole_text
from .base import LARGEST_ROW, Record, skip_or_raise

SUFFIXES = (".json",)
NAME = "JSON"

_SPACE = " \t\n\r"
_CERTAIN = 100
"""Characters before the end of what was read; an error before them is none of the cut there."""


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every row; a text in an array of texts is the column `text_column` of its row.

    Raises:
        InputError: no JSON, or a row that is no object.
    """
    blocks = decode(path, settings.encoding)
    head = next(blocks, "").lstrip(_SPACE)
    if head.startswith("["):
        rows = array_elements(head[1:], blocks, path)
    else:
        rows = iter(_rows(load_document(path, settings), columns))
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            row = {settings.text_column: row}
        if isinstance(row, dict):
            yield Record(row, number)
        else:
            wrong = f"{path} row {number} is not a JSON object"
            yield Record({}, number, skip_or_raise(wrong, settings.skip_bad))


def load_document(path: Path, settings: DataSettings) -> Any:
    """A whole JSON document; InputError where it is none, or too large for the memory."""
    try:
        return json.loads(whole_text(path, settings, 4 * LARGEST_ROW))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise InputError(f"{path} is not JSON ({reason}): get the file again") from error


def array_elements(buffer: str, blocks: Iterable[str], path: Path) -> Iterator[Any]:
    """The values of an array one after the other, from a text that is read as it is needed.

    Args:
        buffer: what follows the opening bracket. blocks: what follows that.

    Raises:
        InputError: names the row that is not JSON, or longer than `LARGEST_ROW`.
    """
    source, decoder = iter(blocks), json.JSONDecoder()
    number, at, is_end = 1, 0, False
    while True:
        while at < len(buffer) and buffer[at] in _SPACE:
            at += 1
        if at < len(buffer) and buffer[at] == "]":
            return
        reason = "the file ends early"
        try:
            value, end = decoder.raw_decode(buffer, at)
            while end < len(buffer) and buffer[end] in _SPACE:
                end += 1
            if buffer[end : end + 1] in (",", "]"):  # what follows shows that a number has ended
                yield value
                number, at = number + 1, end + (buffer[end] == ",")
                continue
            if end < len(buffer):
                raise InputError(f"{path} row {number} is not JSON: no comma follows it")
        except json.JSONDecodeError as error:
            is_cut = error.pos > len(buffer) - _CERTAIN or error.msg.startswith("Unterminated")
            reason, is_end = error.msg, is_end or not is_cut
        except RecursionError:
            reason, is_end = "nested too deeply", True
        # as much again as there is already, so that a long row is not read anew too often
        more, wanted = list[str](), max(1, len(buffer) - at)
        while not is_end and wanted > 0:
            block = next(source, None)
            is_end = block is None
            more.append(block or "")
            wanted -= len(more[-1])
        if is_end and not any(more):
            raise InputError(f"{path} row {number} is not JSON ({reason}): get the file again")
        buffer, at = buffer[at:] + "".join(more), 0
        if len(buffer) > 2 * LARGEST_ROW:
            raise InputError(
                f"{path} row {number} is longer than {LARGEST_ROW >> 20} million characters"
            )


def _rows(document: Any, columns: Sequence[str]) -> list[Any]:
    """The rows of a document that is no array."""
    if isinstance(document, dict):
        lists = {
            name: value
            for name, value in document.items()
            if isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
        }
        # a column that is named from the top on, as in data.paragraphs.context, is asked of all
        if len(lists) == 1 and not any(each.split(".")[0] in document for each in columns):
            return next(iter(lists.values()))
    return [document]
