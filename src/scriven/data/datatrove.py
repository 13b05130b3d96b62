"""Token files that datatrove wrote: `NAME.ds` holds ids of 2 or 4 bytes, little-endian, and
`NAME.ds.index` the end of each document, in tokens, as 8-byte integers.

The ids are taken as they are. A document that does not end with EOS gets one.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..tokenizers import Tokenizer
from .pipeline import FILES
from .shards import id_type, write_token_file
from .split import TRAIN, VALIDATION

_INDEX_WIDTH = 8


def count_documents(path: Path) -> int:
    """How many documents a file holds; InputError if its index is missing or does not fit it."""
    index = path.with_name(f"{path.name}.index")
    try:
        count, rest = divmod(index.stat().st_size, _INDEX_WIDTH)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(
            f"{path} has no index: {index.name} should stand beside it ({error.strerror})"
        ) from error
    if rest or (count and _id_width(path, count) is None) or (not count and size):
        raise InputError(f"{index} does not fit {path.name}: write both again with datatrove")
    return count


def copy_documents(
    path: Path, start: int, end: int, held_out: list[bool], tokenizer: Tokenizer, folder: Path
) -> dict[str, Any]:
    """Writes documents `start` to `end` into the token files of a shard; facts for its record.

    Args:
        held_out: whether each of these documents is for validation.

    Raises:
        InputError: an id that the tokenizer does not have. OSError: the disk is full.
    """
    # 1. read the ids and the ends of the documents
    width = _id_width(path, count_documents(path))
    assert width is not None, "checked by the plan"
    ends = _document_ends(path, start, end)
    first = int(_document_ends(path, start - 1, start)[0]) if start else 0
    ids = np.fromfile(path, f"<u{width}", int(ends[-1]) - first, offset=first * width)
    if len(ids) and int(ids.max()) >= tokenizer.vocab_size:
        raise InputError(
            f"{path} holds id {int(ids.max())}, beyond the {tokenizer.vocab_size} of the"
            " tokenizer: name the one it was written with"
        )
    # 2. the part of each token, and EOS after the documents that have none
    lengths = np.diff(ends - first, prepend=0)  # (documents,)
    last = np.cumsum(lengths)  # (documents,)
    part_of_document = np.array(held_out, dtype=np.int64)
    part = np.repeat(part_of_document, lengths)  # (tokens,)
    # (documents,) whether a document that is not empty lacks EOS
    unclosed = (lengths > 0) & (ids[np.maximum(last, 1) - 1] != tokenizer.eos)
    ids = np.insert(ids.astype(np.int32), last[unclosed], tokenizer.eos)
    part = np.insert(part, last[unclosed], part_of_document[unclosed])
    # 3. write both parts; the text was never seen, so its bytes are counted token by token
    byte_lengths = np.array([len(each) for each in tokenizer.bytes_of], dtype=np.int64)
    dtype = id_type(tokenizer.vocab_size)
    facts: dict[str, Any] = {"dtype": dtype, "files": {}}
    for number, name in ((TRAIN, "train"), (VALIDATION, "validation")):
        part_ids = ids[part == number]
        file = FILES[number]
        facts["files"][file] = write_token_file(folder / file, dtype, part_ids)
        facts[f"{name}_tokens"] = len(part_ids)
        if number == VALIDATION:
            facts["validation_bytes"] = int(byte_lengths[part_ids].sum())
    size = int(byte_lengths[ids].sum())
    return facts | {
        "documents": int((lengths > 0).sum()),
        "characters": size,
        "bytes": size,
        "skipped": 0,
        "first_skipped": "",
        "notes": [],
        "rows": end - start,
        "last": True,
    }


def _document_ends(path: Path, start: int, end: int) -> npt.NDArray[np.int64]:
    index = path.with_name(f"{path.name}.index")
    return np.fromfile(index, "<u8", end - start, offset=start * _INDEX_WIDTH).astype(np.int64)


def _id_width(path: Path, count: int) -> int | None:
    """Bytes of an id, from the size of the file and its number of tokens; None: they do not fit."""
    tokens = int(_document_ends(path, count - 1, count)[0])  # the end of the last document
    size = path.stat().st_size
    return next((width for width in (2, 4) if tokens * width == size), None)
