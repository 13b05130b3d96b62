"""A GGUF file: its header read with distrust, its tensors taken back to floating point.

The common quantisations are unpacked here with torch, on all threads and bit for bit as the package
`gguf` does it, which takes ten times as long; the rest is left to that package.
Format: ggml's docs/gguf.md; blocks: ggml's ggml-common.h.
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DamagedError, InputError, MissingExtra
from ..files import printable
from ..manifest import read_error

MAX_ENTRIES = 100_000
"""Entries of metadata, and tensors, in one file."""

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor is in the file, and how it is stored."""

    shape: tuple[int, ...]
    """As torch has it: the dimension that is contiguous comes last."""
    type: int
    """ggml_type."""
    start: int
    """Byte in the file."""


class GGUFFile:
    """Metadata and tensors of a file, which is mapped into memory and never read as a whole.

    Raises:
        InputError: it cannot be read, or is of a version that is not known. DamagedError: it is
            not whole.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, printable(path)
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise read_error(path, error) from error
        except ValueError as error:  # an empty file cannot be mapped
            raise DamagedError(f"{self.where} is empty: get the file again") from error
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, GGUFTensor] = {}
        try:
            self._read_header()
        except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
            raise self._damaged("its header ends too early or is not what GGUF writes") from error

    def _damaged(self, why: str) -> DamagedError:
        return DamagedError(f"{self.where} is not a whole GGUF file: {why}; get the file again")

    def _read_header(self) -> None:
        if self._data[:4] != b"GGUF":
            raise self._damaged("it does not begin with GGUF")
        self._at = 4
        version = self._scalar("I")
        if version not in (2, 3):
            raise InputError(f"{self.where} is GGUF version {version}: only 2 and 3 can be read")
        tensors, entries = self._scalar("Q"), self._scalar("Q")
        if max(tensors, entries) > MAX_ENTRIES:
            raise self._damaged(f"it claims more than {MAX_ENTRIES:,} entries")
        for _ in range(entries):
            name = self._string()
            self.metadata[name] = self._value(self._scalar("I"))
        found: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(tensors):
            name, dims = self._string(), self._scalar("I")
            if dims > 4 or name in found:
                raise self._damaged(f"the tensor {name[:60]!r} is not possible")
            shape = tuple(self._scalar("Q") for _ in range(dims))[::-1]
            found[name] = shape, self._scalar("I"), self._scalar("Q")
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self._damaged("its alignment is not possible")
        begin = -(-self._at // alignment) * alignment
        for name, (shape, kind, offset) in found.items():
            self.tensors[name] = GGUFTensor(shape, kind, begin + offset)

    def _scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize(code)
        return value

    def _string(self) -> str:
        (length,) = struct.unpack_from("<Q", self._data, self._at)
        self._at += 8 + length
        if self._at > len(self._data):
            raise self._damaged("a text reaches beyond its end")
        # llama.cpp keeps bytes; a token of a broken vocabulary may be no UTF-8
        return self._data[self._at - length : self._at].decode("utf-8", "replace")

    def _value(self, kind: int, nested: bool = False) -> Any:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY or nested:
            raise self._damaged(f"it has a value of type {kind}")
        inner, length = self._scalar("I"), self._scalar("Q")
        if length > len(self._data) - self._at:
            raise self._damaged("a list reaches beyond its end")
        if inner == _STRING:
            return [self._string() for _ in range(length)]
        if inner not in _SCALARS:
            return [self._value(inner, nested=True) for _ in range(length)]
        values = np.frombuffer(self._data, "<" + _SCALARS[inner], length, self._at)
        self._at += values.nbytes
        return values

    def read(self, name: str) -> Tensor:
        """One tensor in float32.

        Raises:
            InputError: a quantisation that nobody here can read. DamagedError: it is not whole.
            MissingExtra: a rare quantisation, without the package gguf.
        """
        tensor = self.tensors[name]
        block, size = self._block(name, tensor.type)
        count = 1
        for each in tensor.shape:
            count *= each
        if not tensor.shape or tensor.shape[-1] % block:
            raise self._damaged(f"the rows of {name[:60]!r} are no multiple of {block}")
        length = count // block * size
        if tensor.start + length > len(self._data):
            raise self._damaged(f"{name[:60]!r} reaches beyond its end")
        packed = np.frombuffer(self._data, np.uint8, length, tensor.start)
        if tensor.type not in _UNPACK:
            import gguf

            values = gguf.quants.dequantize(
                packed.reshape(*tensor.shape[:-1], -1), gguf.GGMLQuantizationType(tensor.type)
            )
            return torch.from_numpy(values).view(tensor.shape)
        # a copy of one tensor: torch takes no memory that cannot be written to
        blocks = torch.from_numpy(packed.copy()).view(-1, size)
        return _UNPACK[tensor.type][2](blocks).reshape(tensor.shape)

    def _block(self, name: str, kind: int) -> tuple[int, int]:
        """(weights, bytes) of a block of a type."""
        if kind in _UNPACK:
            return _UNPACK[kind][:2]
        try:
            import gguf
        except ImportError as error:
            raise MissingExtra("gguf", "gguf", f"the quantisation of {name}") from error
        try:
            quantization = gguf.GGMLQuantizationType(kind)
        except ValueError:
            text = f"{name} has a quantisation of number {kind}, which is not known here"
        else:
            if quantization in gguf.quants._type_traits:  # those that it can dequantise
                block, size = gguf.GGML_QUANT_SIZES[quantization]
                return int(block), int(size)
            text = f"{name} is {quantization.name}, which cannot be taken back to floating point"
        raise InputError(f"{self.where}: {text}: get the model as Q8_0, Q4_K_M, F16 or BF16")


def _half(blocks: Tensor, at: int) -> Tensor:
    """(N, 1) a float16 at a byte of each block, in float32."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor, group: int) -> Tensor:
    """(N, 2 x) values of 4 bits: of each `group` bytes first all low halves, then all high ones."""
    grouped = packed.view(packed.size(0), -1, 1, group)
    return torch.cat((grouped & 15, grouped >> 4), 2).view(packed.size(0), -1)


def _bits(packed: Tensor) -> Tensor:
    """(N, 4) bytes -> (N, 32) their bits, the lowest first."""
    shifts = torch.arange(8, dtype=torch.uint8)
    return ((packed[:, :, None] >> shifts) & 1).view(packed.size(0), -1)


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:], 16).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:], 16).float() + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 6:], 16) | _bits(blocks[:, 2:6]) << 4
    return _half(blocks, 0) * (values.float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 8:], 16) | _bits(blocks[:, 4:8]) << 4
    return _half(blocks, 0) * values.float() + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _scales(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(scales, minima), each (N, 8, 1), of the 8 parts of a block of Q4_K or Q5_K; 6 bits each, the
    upper two of the last four in the bytes of the first four."""
    first, second, third = blocks[:, 4:16].view(-1, 3, 4).unbind(1)  # (N, 4)
    scale = torch.cat((first & 63, third & 15 | first >> 2 & 48), 1)
    least = torch.cat((second & 63, third >> 4 | second >> 2 & 48), 1)
    return (
        (_half(blocks, 0) * scale.float())[..., None],
        (_half(blocks, 2) * least.float())[..., None],
    )


def _q4_k(blocks: Tensor) -> Tensor:
    scale, least = _scales(blocks)
    return scale * _nibbles(blocks[:, 16:], 32).view(-1, 8, 32).float() - least


def _q5_k(blocks: Tensor) -> Tensor:
    scale, least = _scales(blocks)
    shifts = torch.arange(8, dtype=torch.uint8)[:, None]
    high = (blocks[:, None, 16:48] >> shifts) & 1  # (N, 8, 32)
    values = _nibbles(blocks[:, 48:], 32).view(-1, 8, 32) | high << 4
    return scale * values.float() - least


def _q6_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, :128], 64).view(-1, 16, 16)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    high = (blocks[:, 128:192].view(-1, 2, 1, 32) >> shifts) & 3  # (N, 2, 4, 32)
    values = (low | high.view(-1, 16, 16) << 4).float() - 32
    scale = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return scale[..., None] * values


_UNPACK: dict[int, tuple[int, int, Callable[[Tensor], Tensor]]] = {
    0: (1, 4, lambda blocks: blocks.view(torch.float32)),
    1: (1, 2, lambda blocks: blocks.view(torch.float16).float()),
    2: (32, 18, _q4_0),
    3: (32, 20, _q4_1),
    6: (32, 22, _q5_0),
    7: (32, 24, _q5_1),
    8: (32, 34, _q8_0),
    12: (256, 144, _q4_k),
    13: (256, 176, _q5_k),
    14: (256, 210, _q6_k),
    30: (1, 2, lambda blocks: blocks.view(torch.bfloat16).float()),
}
"""ggml_type -> weights and bytes of a block, and how blocks (N, bytes) become weights."""
