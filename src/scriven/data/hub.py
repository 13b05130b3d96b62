"""`hf:NAME[/CONFIG][:SPLIT][#COLUMN]`: a Hugging Face data set, streamed (extra `data`).

NAME is one on the hub, or a folder with data files. This is the one kind of source that may use
the network, and only because its name was given.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, MissingExtra
from ..settings import DataSettings
from .formats.base import LARGEST_ROW, TextChunk, bad_row, document

PREFIX = "hf:"
_FORM = re.compile(r"hf:(?P<path>[^:#]+)(?::(?P<split>[^#]+))?(?:#(?P<column>.+))?")


class Name(NamedTuple):
    """What a name says."""

    path: str
    config: str | None
    split: str
    column: str | None


def parse(name: str) -> Name:
    """The parts of a name.

    Raises:
        InputError: it has another form.
    """
    found = _FORM.fullmatch(name)
    if found is None:
        raise InputError(f"{name}: write hf:NAME[/CONFIG][:SPLIT][#COLUMN], as hf:org/name:train")
    path, config = found["path"], None
    if not Path(path).is_dir() and path.count("/") == 2:
        path, _, config = path.rpartition("/")
    return Name(path, config, found["split"] or "train", found["column"])


def read(name: str, settings: DataSettings) -> Iterator[TextChunk]:
    """The texts row by row, as they come.

    Raises:
        InputError: no such data set, split or column, or a row without a text.
        MissingExtra: datasets is not installed.
    """
    wanted = parse(name)
    column = wanted.column or settings.text_column
    for number, row in enumerate(_rows(name, wanted), 1):
        if column not in row:
            known = ", ".join(map(str, row))
            raise InputError(f"{name} has no column {column!r}: choose with #COLUMN one of {known}")
        text = row[column]
        if not isinstance(text, str) or len(text) > LARGEST_ROW:
            yield bad_row(f"{name} row {number}: {column!r} holds no text", settings.skip_bad)
        else:
            yield from document(text)


def _rows(name: str, wanted: Name) -> Iterator[dict[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "data", f"reading {name}") from error
    try:
        yield from datasets.load_dataset(
            wanted.path, wanted.config, split=wanted.split, streaming=True
        )
    except (InputError, GeneratorExit):
        raise
    except Exception as error:  # whatever the library and its network raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{name} cannot be read: {reason}; check the name, the split and the network"
        ) from error
