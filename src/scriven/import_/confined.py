"""Tensors out of a pickle, in a process of its own that can do nothing else.

    python -m scriven.import_.confined

The file to read is standard input and the file to write standard output, both opened by whoever
starts it. Only names, shapes and numbers are taken: `weights_only` builds no object but tensors
and plain containers and calls nothing that the file names. Should that ever have a hole, what got
through finds a process that cannot open a file or a socket, start a program, grow beyond its
share of memory, write more than the weights, or run for long. Unix only.
"""

import contextlib
import ctypes
import io
import json
import os
import re
import resource
import sys
from typing import Any

import torch

from ..runs.weights import encode

SPARE_MEMORY = 1 << 30
"""Bytes beyond four times the file: the copies that widening and writing make."""
SECONDS = 120
"""Of processor time, and as many more as the file has units of 10 MB."""

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
"""Linux's numbers for namespaces, which Python 3.11 has no names for."""

NO_TABLE = "it is no table of named tensors"
TOO_LARGE = "it needs more memory than a file of its size should"

_GLOBAL = re.compile(r"(?:GLOBAL|global) ([\w.]+)")


def main() -> int:
    """Reads standard input, writes standard output; one line of JSON on standard error."""
    source, target = 0, 1
    size = os.fstat(source).st_size
    torch.set_num_threads(1)
    _warm_up()
    confine(size)
    try:
        with open(source, "rb", closefd=False) as file:
            found = torch.load(file, map_location="cpu", weights_only=True)
        for piece in encode(_tensors(found)):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(target, rest) :]
        os.fsync(target)
    except MemoryError:
        return _fail(TOO_LARGE)
    except Exception as error:  # a loader of untrusted bytes can raise anything
        return _fail(_explain(str(error)))
    return 0


def confine(size: int) -> None:
    """Gives up everything that reading a file of `size` bytes does not need."""
    limits = {
        "RLIMIT_CPU": SECONDS + size // 10_000_000,
        "RLIMIT_FSIZE": 4 * size + (1 << 20),
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,  # root is exempt, but has no file number left for a pipe either
        "RLIMIT_AS": _address_space() + 4 * size + SPARE_MEMORY,
        "RLIMIT_NOFILE": _free_number(),  # no further file, socket or folder: it would need one
    }
    _leave_network()
    for name, most in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        with contextlib.suppress(ValueError, OSError):  # a system that has no such limit
            resource.setrlimit(kind, (most, most))


def _free_number() -> int:
    """The lowest number a new file would get: with it as the limit, none can be opened."""
    number = os.dup(0)
    os.close(number)
    return number


def _leave_network() -> None:
    """Into a network namespace without any network, where the system lets a user do that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(NEW_USER | NEW_NETWORK)


def _address_space() -> int:
    """Bytes of address space in use, most of it torch's own libraries."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 64 << 30


def _warm_up() -> None:
    """Reads a small file, so that nothing has to be imported once no file can be opened."""
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"weight": torch.ones(2).half()}, buffer, _use_new_zipfile_serialization=zipped)
        buffer.seek(0)
        encode(torch.load(buffer, map_location="cpu", weights_only=True))
    with contextlib.suppress(Exception):
        torch.load(io.BytesIO(b"nothing"), weights_only=True)


def _tensors(found: Any) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, which some trainers put under a name of its own."""
    for inner in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(inner), dict):
            found = found[inner]
    named = isinstance(found, dict) and all(isinstance(name, str) for name in found)
    if not named or not found or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise ValueError(NO_TABLE)
    return {name: one.detach().clone().contiguous() for name, one in found.items()}


def _explain(text: str) -> str:
    """What went wrong, in a few words: the loader's own advice is to trust the file."""
    named = _GLOBAL.search(text)
    if named:
        return f"code: {named[1]}"
    if "allocate memory" in text:
        return TOO_LARGE
    if text == NO_TABLE:
        return text
    if "TorchScript" in text:
        return "code: a TorchScript program"
    return "it is damaged, or holds more than tensors"


def _fail(reason: str) -> int:
    sys.stderr.write("\n" + json.dumps({"reason": reason}) + "\n")
    sys.stderr.flush()
    return 1


if __name__ == "__main__":
    sys.exit(main())
