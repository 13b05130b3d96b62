"""What the header of a safetensors file may say, checked before anything is allocated.

    8 bytes       length of the header, little endian
    JSON          {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}, ...}
    the tensors   one after the other, without a gap and to the end of the file

Knows no digest and builds no tensor. Source: https://github.com/huggingface/safetensors, "Format".
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ..errors import DamagedError

LONGEST = 16_000_000
"""Bytes of a header. The format allows 100 MB, but parsing takes several times that."""
MOST = 100_000
"""Tensors in one file. A parsed entry takes ten times its text, so they are counted before."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Entry(NamedTuple):
    """One tensor: its type, its shape, and where its bytes are, counted from the header's end."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def build(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """The header, with its length, of tensors that will follow in the order given."""
    described: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in tensors.items():
        stop = start + tensor.numel() * tensor.element_size()
        described[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(described, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    return len(text).to_bytes(8, "little") + text


def length(prefix: bytes, size: int, where: str) -> int:
    """The length of the header, from the first 8 bytes of a file of `size` bytes."""
    if len(prefix) < 8:
        raise _damaged(where, "it has no header")
    found = int.from_bytes(prefix, "little")
    if found > min(LONGEST, size - 8):
        raise _damaged(where, f"its header of {found} bytes does not fit")
    return found


def parse(text: bytes, size: int, where: str) -> dict[str, Entry]:
    """The tensors of a file.

    Args:
        text: the header without its length.
        size: bytes after the header.
        where: how the file is named in messages.

    Raises:
        DamagedError: the file is cut, has bytes too many, or was made to do harm.
    """
    if text.count(b"{") + text.count(b"[") > 3 * MOST + 16 or text.count(b",") > 8 * MOST:
        raise _damaged(where, f"more than {MOST} tensors")
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, "its header is no JSON") from error
    if not isinstance(described, dict):
        raise _damaged(where, "its header is no JSON object")
    described.pop("__metadata__", None)
    entries = {name: _entry(name, described[name], where) for name in described}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.start != end:
            raise _damaged(where, f"tensor {name[:80]!r} does not begin where the last one ends")
        end = entry.stop
    if end != size:
        raise _damaged(where, f"it has {size} bytes of tensors, its header says {end}")
    return entries


def _entry(name: str, described: Any, where: str) -> Entry:
    wanted = {"dtype", "shape", "data_offsets"}
    if not isinstance(described, dict) or described.keys() != wanted:
        raise _damaged(where, f"tensor {name[:80]!r} is not described")
    dtype, shape, offsets = (described[key] for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _damaged(where, f"tensor {name[:80]!r} has the unknown type {str(dtype)[:20]!r}")
    if not _sizes(shape, 64) or not _sizes(offsets, 2) or len(offsets) != 2:
        raise _damaged(where, f"tensor {name[:80]!r} has an impossible shape or place")
    # An empty tensor may have any other sizes, but torch multiplies them all for its strides.
    if math.prod(size for size in shape if size) >= 1 << 63:
        raise _damaged(where, f"tensor {name[:80]!r} has an impossible shape")
    start, stop = offsets
    if stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
        raise _damaged(where, f"tensor {name[:80]!r} has a shape of another size than its bytes")
    return Entry(DTYPES[dtype], tuple(shape), start, stop)


def _sizes(values: Any, most: int) -> bool:
    """Whether this is a list of at most `most` sizes."""
    if not isinstance(values, list) or len(values) > most:
        return False
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _damaged(where: str, what: str) -> DamagedError:
    return DamagedError(f"{where} is not a whole safetensors file: {what}")
