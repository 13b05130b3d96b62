"""Data from memory as files: what a program holds is written once, row by row, to a file that every
reader of this folder reads, so that it is the same training as from a file.

The file lies in the cache, named by its content: the same data is the same file, which a run that
is resumed or evaluated finds again. Frames are read by narwhals (extra `frames`).
"""

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import cache_folder
from ..errors import InputError, MissingExtra, ScrivenError, has_flags
from ..files import disk_errors, make_folder, remove_leftovers, rename_durably, temporary_beside
from ..tokenizers import Tokenizer, clean
from .recognise import recognise
from .sources import PAIR_COLUMNS

FRAMES = frozenset(
    {
        "cudf",
        "dask",
        "duckdb",
        "ibis",
        "modin",
        "narwhals",
        "pandas",
        "polars",
        "pyarrow",
        "pyspark",
    }
)
"""Packages whose frames narwhals reads."""
SHORTEST_TEXT = 200  # characters of one line from which on it is a text and no name of a file
_REMEDY = "set SCRIVEN_CACHE to a folder with more room"

Row = dict[str, Any]


@dataclass(frozen=True)
class Naming:
    """What the parts of rows are called, and the tokenizer of token ids."""

    columns: Sequence[str] = ()
    """The columns of a tuple; by default those of a pair of texts, or of a text and a label."""
    tokenizer: Callable[[], Tokenizer] | None = None


@contextlib.contextmanager
def as_files(
    given: Iterable[Any],
    naming: Naming = Naming(),
    *,
    texts: bool = True,
) -> Iterator[list[str]]:
    """The names of files for data of a program: names stay, all else is written to the cache.

    In the block, an error that speaks of such a file names the data instead.

    Args:
        texts: whether a str may be a text. It is one if it has several lines, or one of
            `SHORTEST_TEXT` characters, and is not the name of a file.

    Raises:
        InputError: data that holds no rows, or rows of something else.
        MissingExtra: narwhals is not installed.
    """
    names, labels = list[str](), dict[str, str]()
    for data in given:
        name = str(data)
        # at a command line everything is a name
        is_data = not isinstance(data, str | os.PathLike) or (texts and is_text(data))
        if is_data and not has_flags.get():
            name = str(store(data, naming))
            labels[name] = describe_data(data)
        names.append(name)
    try:
        yield names
    except ScrivenError as error:
        message = str(error)
        for name, label in labels.items():
            message = message.replace(name, label)
        error.args = (message,)
        raise


def is_text(value: object) -> bool:
    """Whether a value is a text, and not a name of files."""
    if not isinstance(value, str):
        return False
    has_lines = "\n" in value.strip() or (len(value) >= SHORTEST_TEXT and " " in value.strip())
    return has_lines and not os.path.exists(value)


def describe_data(data: object) -> str:
    """How a message names data: the list, the DataFrame, ..."""
    return "the text" if isinstance(data, str) else f"the {type(data).__name__}"


def store(data: Any, naming: Naming = Naming()) -> Path:
    """Writes data to a file of the cache, and returns its path; an iterator is read once.

    Raises: as `as_files`.
    """
    if isinstance(data, str):
        path = _write("text", ".txt", [clean(data).encode()])
        if recognise(path, by_name=False) is None:
            return path
        # markup and the like is a text too, if it is given as one; rows hold any
        data = [data]
    lines = (json.dumps(row).encode() + b"\n" for row in rows_of(data, naming))
    return _write("rows", ".jsonl", lines, describe_data(data))


def _write(stem: str, suffix: str, parts: Iterable[bytes], label: str = "") -> Path:
    folder = cache_folder() / "memory"
    make_folder(folder, "set SCRIVEN_CACHE to a folder that can be written")
    remove_leftovers(folder)
    digest, size = hashlib.sha256(), 0
    # two threads may write at once
    free = folder / f"{stem}-{secrets.token_hex(6)}"
    with disk_errors(folder, remedy=_REMEDY), temporary_beside(free) as temporary:
        with temporary.open("wb") as file:
            for part in parts:
                digest.update(part)
                size += file.write(part)
        if not size:
            raise InputError(f"{label or 'the text'} is empty: give some rows, or a text")
        path = folder / f"{stem}-{digest.hexdigest()[:12]}{suffix}"
        rename_durably(temporary, path)
    return path


# ------------------------------------------------------------------ rows


def rows_of(data: Any, naming: Naming = Naming()) -> Iterator[Row]:
    """The rows of any data as dicts of what JSON can hold; a text alone is a row with `text`.

    Raises: as `as_files`.
    """
    for number, item in enumerate(items_of(data, naming), 1):
        row = _row(item, naming)
        if row is None:
            raise InputError(
                f"row {number} of {describe_data(data)} is {_kind(item)}: give texts, dicts by "
                "column, or tuples of a text and a label"
            )
        yield row


def items_of(data: Any, naming: Naming = Naming()) -> Iterator[Any]:
    """The rows of any data, each as it is: a text, a dict, a tuple or an array of token ids.

    Raises: as `as_files`.
    """
    if isinstance(data, Mapping):
        return _columns(data, describe_data(data))
    if is_frame(data):
        return _frame_items(data)
    if isinstance(data, np.ndarray) or has_class(data, "torch", "Tensor"):
        return _array_items(np.asarray(data), naming)
    if has_class(data, "torch.utils.data.dataloader", "DataLoader"):
        return _batch_items(data)
    if has_class(data, "datasets.", "Dataset") or has_class(data, "datasets.", "IterableDataset"):
        return _labelled_items(data)
    if not hasattr(type(data), "__iter__") and hasattr(data, "__getitem__"):
        # a map-style data set of torch need not end with an IndexError
        return (data[number] for number in range(len(data)))
    if isinstance(data, bytes) or not hasattr(type(data), "__iter__"):
        raise InputError(
            f"{describe_data(data)} holds no data that is read: give the name of a file, a text, a "
            "list or an iterator of texts or dicts, a dict of columns, a frame, or a data set"
        )
    return iter(data)


def is_frame(data: object) -> bool:
    """Whether data is a frame, a series or an Arrow table, by the package it comes from."""
    return type(data).__module__.partition(".")[0] in FRAMES


def narwhals(data: object) -> Any:
    """A frame or series as narwhals wraps it.

    Raises:
        MissingExtra: narwhals is not installed. InputError: it is none that narwhals knows.
    """
    try:
        import narwhals.stable.v2 as nw
    except ImportError as error:
        raise MissingExtra("narwhals", "frames", f"reading {describe_data(data)}") from error
    try:
        wrapped: Any = nw.from_native(data, allow_series=True)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{describe_data(data)} cannot be read: {reason}") from error
    return wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped


def is_arrow_part(data: object) -> bool:
    """Whether this is an Arrow batch, array or stream of batches, and no table."""
    is_batch = hasattr(data, "to_pylist") and not hasattr(data, "to_batches")
    return is_batch or hasattr(data, "read_next_batch")


def _frame_items(data: Any) -> Iterator[Any]:
    if is_arrow_part(data):
        for batch in data if hasattr(data, "read_next_batch") else [data]:
            yield from batch.to_pylist()
        return
    wrapped = narwhals(data)
    yield from wrapped.iter_rows(named=True) if hasattr(wrapped, "iter_rows") else wrapped


def _columns(data: Mapping[Any, Any], label: str) -> Iterator[Row]:
    """The rows of a dict of columns."""
    names = [str(name) for name in data]
    sizes = {
        str(name): len(column)
        for name, column in data.items()
        if hasattr(column, "__len__") and not isinstance(column, str | bytes | Mapping)
    }
    if (
        len(sizes) < len(names)
        or len(set(sizes.values())) > 1
        or not all(map(_is_column, data.values()))
    ):
        shown = ", ".join(f"{name} {sizes.get(name, 'no column')}" for name in names[:10])
        raise InputError(
            f"{label} is no dict of columns of one length ({shown}): give one row as [row], and of "
            "a dict of data sets one of them"
        )
    for values in zip(*data.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _is_column(values: Any) -> bool:
    """Whether this is a column, and no table of its own as in a dict of data sets."""
    return not (is_frame(values) and hasattr(values, "columns")) and not hasattr(values, "features")


def _array_items(array: npt.NDArray[Any], naming: Naming) -> Iterator[Any]:
    """The documents of token ids (n,), which end with EOS, or the entries along the first axis."""
    if array.ndim != 1 or array.dtype.kind not in "iu":
        yield from array
        return
    # the ids of one text have no EOS
    eos = _tokenizer(naming).eos
    ends = np.flatnonzero(array == eos)
    for document in np.split(array, ends):
        document = document[1:] if len(document) and document[0] == eos else document
        if len(document):
            yield document


def _batch_items(loader: Any) -> Iterator[Any]:
    """The rows in the batches of a DataLoader."""
    from torch.utils.data import default_collate

    has_batches = loader.batch_size is not None or loader.batch_sampler is not None
    for batch in loader:
        if not has_batches or not hasattr(batch, "__iter__"):
            yield batch
        elif isinstance(batch, Mapping):
            yield from _columns(batch, "the batch")
        # a list of columns from torch, a list of rows from a function of the user's own
        elif loader.collate_fn is default_collate and not (
            hasattr(batch, "shape") or all(isinstance(each, str) for each in batch)
        ):
            yield from zip(*batch, strict=True)
        else:
            yield from batch


def _labelled_items(data: Any) -> Iterator[Row]:
    """The rows of a data set of the package `datasets`, with names where it numbers classes."""
    features = data.features or {}
    named = {name: each.names for name, each in features.items() if hasattr(each, "int2str")}
    for row in data:
        for name, names in named.items():
            # -1 marks a row without a label
            if isinstance(value := row.get(name), int) and 0 <= value < len(names):
                row[name] = names[value]
        yield row


# ------------------------------------------------------------------ one row


def _row(item: Any, naming: Naming) -> Row | None:
    """One row as a dict; None if it is none."""
    ids = token_ids(item)
    if ids is not None:
        return {"text": _decode(ids, _tokenizer(naming))}
    item = plain_cell(item)
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, dict):
        return item or None
    if not isinstance(item, list) or not item:
        return None
    if all(isinstance(each, dict) for each in item):
        return {"messages": item}
    columns = naming.columns
    if not columns and len(item) == 2 and isinstance(item[0], str):
        columns = PAIR_COLUMNS if isinstance(item[1], str) else ("text", "label")
    return dict(zip(columns, item, strict=True)) if len(columns) == len(item) else None


def plain_cell(value: Any) -> Any:
    """A value as JSON can hold it: numbers and lists of arrays, text of dates, None for what is
    missing. Of a dict whatever else it holds, such as an image, is left out."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, Mapping):
        cells = ((str(name), each, plain_cell(each)) for name, each in value.items())
        return {name: read for name, each, read in cells if read is not None or _is_missing(each)}
    if isinstance(value, list | tuple):
        return [plain_cell(each) for each in value]
    if hasattr(value, "tolist"):  # numpy and torch, arrays and single values
        return plain_cell(value.tolist())
    if hasattr(value, "isoformat") and not _is_missing(value):
        return str(value)
    return float(value) if type(value).__name__ == "Decimal" else None


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def token_ids(item: Any) -> npt.NDArray[np.int64] | None:
    """Token ids of a document, (n,); None for anything else."""
    is_array = isinstance(item, np.ndarray) or has_class(item, "torch", "Tensor")
    if not is_array and not (
        isinstance(item, list | tuple)
        and item
        and all(isinstance(each, int) and not isinstance(each, bool) for each in item)
    ):
        return None
    ids = np.asarray(item)
    return ids.astype(np.int64) if ids.ndim == 1 and ids.dtype.kind in "iu" else None


def _decode(ids: npt.NDArray[np.int64], tokenizer: Tokenizer) -> str:
    text = tokenizer.decode(ids.tolist())
    # a text is encoded again as it is read, which must not make it other ids
    if not np.array_equal(tokenizer.encode_array(text), ids):
        raise InputError(
            f"{len(ids):,} token ids are not those that the tokenizer makes of their text "
            f"{text[:40]!r}: give the texts themselves"
        )
    return text


def _tokenizer(naming: Naming) -> Tokenizer:
    if naming.tokenizer is None:
        raise InputError(
            "token ids say nothing without the tokenizer that made them: name its model with base, "
            "or give the texts themselves"
        )
    return naming.tokenizer()


def has_class(data: object, module: str, name: str) -> bool:
    """Whether a class or one it derives from has this name, in a module that begins so."""
    bases = type(data).__mro__
    return any(base.__name__ == name and base.__module__.startswith(module) for base in bases)


def _kind(item: object) -> str:
    return "nothing" if item is None else f"a {type(item).__name__}"
