"""Tensors in a safetensors file that carries a SHA-256 of itself.

One file, so one rename publishes it, and one flipped bit anywhere is noticed without a second
file. The digest covers every byte, with its own 64 characters taken as zeros; other readers see
one more line of metadata. Tied weights are one tensor: the caller names it once.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import DamagedError, ResourceError
from ..files import Buffer, file_size, printable, read_error, write_file
from ..format import format_bytes
from . import header

# Written first, so that the digest always stands at the same place.
_OPENING = b'{"__metadata__":{"sha256":"'
_START, _STOP = len(_OPENING), len(_OPENING) + 64
_BLANK = "0" * 64

ALIGNMENT = 64
"""Bytes; of PyTorch's own tensors on a CPU."""


def encode(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> list[Buffer]:
    """The file as pieces; tensors that are on the CPU and contiguous are not copied.

    The bytes depend on the content alone, so equal tensors give equal files.

    Args:
        tensors: name -> dense tensor of any shape. They must not change until the file is written.
        metadata: further text for the header.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    ready = {name: tensors[name].detach().cpu().contiguous() for name in order}
    about = {"sha256": _BLANK, "format": "pt", **(metadata or {})}
    assert about["sha256"] == _BLANK, "the digest is ours"
    head = bytearray(header.build(ready, about))
    data = [one.reshape(-1).view(torch.uint8).numpy().data for one in ready.values()]
    digest = hashlib.sha256(head)
    for piece in data:
        digest.update(piece)
    head[8 + _START : 8 + _STOP] = digest.hexdigest().encode("ascii")
    return [head, *data]


def decode(raw: bytearray, where: str, *, sealed: bool = True) -> dict[str, torch.Tensor]:
    """The tensors of a file in memory, each where `aligned` wants it.

    Args:
        raw: the whole file.
        where: how the file is named in messages.
        sealed: whether to check the digest inside; not needed where a manifest has been checked.

    Raises:
        DamagedError: the bytes are not what was written.
    """
    stop = 8 + header.length(bytes(raw[:8]), len(raw), where)
    found = _tensors(bytes(raw[8:stop]), memoryview(raw)[stop:], where, sealed)
    return {name: aligned(tensor) for name, tensor in found.items()}


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """The same at an address like those of tensors that PyTorch makes.

    Intel's MKL promises equal bits for equal addresses modulo 64 only, and on an AMD processor it
    makes use of that: a run that went on from tensors in the middle of a file was another run.
    """
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file that is always the old one or the whole new one.

    Raises:
        ResourceError, InputError: as `write_file`.
    """
    write_file(path, encode(tensors, metadata))


def load_tensors(path: Path, *, sealed: bool | None = True) -> dict[str, torch.Tensor]:
    """Reads a safetensors file onto the CPU, in one times its size of memory.

    Args:
        path: the file.
        sealed: False for a file of another program, which has no digest; None: check it if there
            is one.

    Raises:
        DamagedError: the file is not what was written, or was made to do harm.
        ResourceError: there is not enough memory for it.
    """
    where = printable(path)
    try:
        size = file_size(path)
        with path.open("rb") as file:
            text = file.read(header.length(file.read(8), size, where))
            header.parse(text, size - 8 - len(text), where)
            data = bytearray(size - 8 - len(text))
            count = file.readinto(data)
    except OSError as error:
        raise read_error(path, error) from error
    except MemoryError as error:
        raise ResourceError(f"{where} needs {format_bytes(size)} of memory") from error
    return _tensors(text, memoryview(data)[:count], where, sealed)


def _tensors(
    text: bytes, data: memoryview, where: str, sealed: bool | None
) -> dict[str, torch.Tensor]:
    if text.startswith(_OPENING) if sealed is None else sealed:
        _check(text, data, where)
    entries = header.parse(text, len(data), where)
    return {name: _tensor(entry, data) for name, entry in entries.items()}


def _tensor(entry: header.Entry, data: memoryview) -> torch.Tensor:
    if entry.start == entry.stop:
        return torch.empty(entry.shape, dtype=entry.dtype)
    flat = torch.frombuffer(data[entry.start : entry.stop], dtype=torch.uint8)
    if flat.data_ptr() % entry.dtype.itemsize:  # in files of other programs
        flat = flat.clone()
    return flat.view(entry.dtype).reshape(entry.shape)


def _check(text: bytes, data: memoryview, where: str) -> None:
    if not text.startswith(_OPENING):
        raise DamagedError(f"{where} has no digest: it is damaged or not written by Scriven")
    digest = hashlib.sha256(len(text).to_bytes(8, "little"))
    for part in (text[:_START], _BLANK.encode("ascii"), memoryview(text)[_STOP:], data):
        digest.update(part)
    if digest.hexdigest().encode("ascii") != text[_START:_STOP]:
        raise DamagedError(f"{where} is damaged: its SHA-256 is not the one written inside")
