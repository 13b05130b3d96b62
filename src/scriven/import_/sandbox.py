"""Pickled weights converted to safetensors by a sandboxed process that can do nothing else.

    python -m scriven.import_.sandbox

This process never reads the pickle: it starts the child above with the pickle as standard input
and the safetensors file as standard output, and treats what comes back like any other file.

In the child, `weights_only` builds no object but tensors and plain containers, and calls nothing
that the file names. Should that ever have a hole, the exploit is in a process that cannot open,
rename or delete a file, open a socket, fork, start a program, grow beyond its memory limit, write
more than the weights, or run for long. Linux and macOS only; Landlock, seccomp and namespaces on
Linux only.
"""

import contextlib
import ctypes
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, ResourceError
from ..files import printable
from ..format import format_bytes
from ..manifest import file_size, read_error
from ..runs.weights import encode
from .seccomp import PR_SET_NO_NEW_PRIVS, deny_system_calls

TIMEOUT = 1800
"""Seconds that a file may take, waiting for the disk included."""
SPARE_MEMORY = 1 << 30
"""Bytes of memory beyond four times the file, for the copies of conversion and writing."""
CPU_SECONDS = 120
"""Seconds of CPU time, plus one for each 10 MB of the file."""

CHILD_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
"""A single thread: with several, a process cannot enter a user namespace, and Landlock restricts
only the thread that calls it."""

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
"""linux/sched.h; Python has names for them only from 3.12 on."""
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
"""Numbers of system calls, the same on every architecture."""

NOT_TENSORS = "it is no table of named tensors"
TOO_LARGE = "it needs more memory than a file of its size should"

_GLOBAL = re.compile(r"(?:GLOBAL|global) ([\w.]+)")


def convert_pickle(source: Path, target: Path) -> None:
    """Writes one pickle of tensors as one safetensors file; nothing in the pickle is run.

    Raises:
        InputError: it holds something else than tensors. ResourceError: the disk is full.
    """
    where = printable(source)
    try:
        size = file_size(source)
        if shutil.disk_usage(target.parent).free < 2 * size:
            raise ResourceError(
                f"{where} needs {format_bytes(2 * size)} of room in {target.parent}: free some, "
                "or set TMPDIR to a folder with more"
            )
        with source.open("rb") as pickle, target.open("wb") as tensors:
            done = subprocess.run(  # noqa: S603 (our own file, no shell)
                [sys.executable, "-I", "-m", f"{__package__}.sandbox"],
                stdin=pickle, stdout=tensors, stderr=subprocess.PIPE, timeout=TIMEOUT,
                cwd=target.parent, env=CHILD_ENVIRONMENT,
            )  # fmt: skip
    except OSError as error:
        raise read_error(source, error) from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{where} took longer than {TIMEOUT} seconds: not converted") from error
    if done.returncode == 0:
        return
    try:  # the last line is JSON, unless a limit ended the child
        reason = str(json.loads(done.stderr.decode("utf-8", "replace").splitlines()[-1])["reason"])
    except (ValueError, IndexError, KeyError, TypeError):
        reason = "its process was stopped by a limit of time, memory or size"
    if reason.startswith("code: "):
        raise InputError(
            f"{where} holds code ({reason[6:300]}), not only tensors: it was refused and nothing "
            "of it was run"
        )
    raise InputError(f"{where} cannot be converted: {reason[:300]}")


def convert_stdin() -> int:
    """The child: reads standard input, writes standard output, and on failure one line of JSON
    with the reason to standard error."""
    source, target = 0, 1
    size = os.fstat(source).st_size
    torch.set_num_threads(1)
    # 1. import all that reading needs, 2. give up the right to everything else, 3. read
    _warm_up()
    confine(size)
    try:
        with open(source, "rb", closefd=False) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
        for piece in encode(_named_tensors(content)):
            rest = memoryview(piece)
            while rest:  # the system may write less than it was given
                rest = rest[os.write(target, rest) :]
        os.fsync(target)
    except MemoryError:
        return _fail(TOO_LARGE)
    except Exception as error:  # a loader of untrusted bytes can raise anything
        return _fail(_explain(str(error)))
    return 0


def confine(size: int) -> None:
    """Gives up every right that reading a file of `size` bytes does not need, irrevocably."""
    import resource  # not on Windows

    # in this order: reading /proc and making a ruleset need what the later steps forbid
    address_space = _address_space()
    leave_network()
    deny_file_system()
    limits = {
        "RLIMIT_CPU": CPU_SECONDS + size // 10_000_000,
        "RLIMIT_FSIZE": 4 * size + (1 << 20),
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,  # root is exempt; seccomp forbids it to fork
        "RLIMIT_AS": address_space + 4 * size + SPARE_MEMORY,
        # No further file, socket or folder: each would need a descriptor. 0 rather than the
        # number of open ones, since closing one of those would make room.
        "RLIMIT_NOFILE": 0,
    }
    for name, most in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        with contextlib.suppress(ValueError, OSError):  # a system that has no such limit
            resource.setrlimit(kind, (most, most))
    deny_system_calls()


def leave_network() -> None:
    """Moves into a network namespace without any network, where the system allows it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(CLONE_NEWUSER | CLONE_NEWNET)


def deny_file_system() -> None:
    """Denies by Landlock (Linux 5.13) all that paths can do: open, make, rename, delete, execute;
    from Linux 6.12 on also signals to other processes."""
    version = landlock_version()
    if version < 1:
        return
    # The rights grew with the version: 13 of the file system at first, then REFER (2),
    # TRUNCATE (3) and IOCTL_DEV (5); TCP bind and connect (4); abstract sockets and signals (6).
    file_rights = (1 << (13 + sum(version >= since for since in (2, 3, 5)))) - 1
    rights = (ctypes.c_uint64 * 3)(
        file_rights, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0
    )
    libc = ctypes.CDLL(None)
    # without it the kernel accepts a ruleset from privileged processes only
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # a ruleset without a rule: every right that it handles is denied everywhere
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, rights, ctypes.sizeof(rights), 0)
    if ruleset >= 0:
        libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)


def landlock_version() -> int:
    """The version of Landlock's interface in this kernel; 0 without it."""
    if sys.platform != "linux":
        return 0
    # flag 1 (LANDLOCK_CREATE_RULESET_VERSION) asks for the version only
    return max(0, int(ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)))


def _address_space() -> int:
    """Bytes of address space in use, most of it torch's own libraries."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 64 << 30


def _warm_up() -> None:
    """Reads a small file, so that nothing has to be imported once no file can be opened."""
    for zipped in (True, False):  # the formats since and before PyTorch 1.6
        buffer = io.BytesIO()
        torch.save({"weight": torch.ones(2).half()}, buffer, _use_new_zipfile_serialization=zipped)
        buffer.seek(0)
        encode(torch.load(buffer, map_location="cpu", weights_only=True))
    with contextlib.suppress(Exception):
        torch.load(io.BytesIO(b"nothing"), weights_only=True)


def _named_tensors(content: Any) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, which some trainers nest under a name of its own."""
    for inner in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(inner), dict):
            content = content[inner]
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if (
        not named
        or not content
        or not all(isinstance(one, torch.Tensor) for one in content.values())
    ):
        raise ValueError(NOT_TENSORS)
    return {name: one.detach().clone().contiguous() for name, one in content.items()}


def _explain(text: str) -> str:
    """The reason in a few words: the loader's own advice is to trust the file."""
    code = _GLOBAL.search(text)
    if code:
        return f"code: {code[1]}"
    if "allocate memory" in text:
        return TOO_LARGE
    if text == NOT_TENSORS:
        return text
    if "TorchScript" in text:
        return "code: a TorchScript program"
    return "it is damaged, or holds more than tensors"


def _fail(reason: str) -> int:
    sys.stderr.write("\n" + json.dumps({"reason": reason}) + "\n")
    sys.stderr.flush()
    return 1


if __name__ == "__main__":
    sys.exit(convert_stdin())
