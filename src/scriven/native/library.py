"""The libraries of the .cpp files: compiled once per machine, in the background, and loaded; and
the sampling of the next token (sampling.h).

They are kept in the user's cache folder under a digest of the source, the compiler and the CPU.
Without a compiler, or where compiling fails, everything runs in PyTorch; `SCRIVEN_NATIVE=off` asks
for that.
"""

import ctypes
import hashlib
import math
import os
import platform
import shutil
import stat
import struct
import subprocess
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import cache_folder

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++20", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
         "-shared", "-fPIC", "-pthread")  # fmt: skip
SOURCES = {
    "decoder": ("decoder.cpp",),
    "training": ("training.cpp", "muon.cpp", "causal_attention.cpp"),
}
"""The files of each library."""
FUNCTIONS: dict[str, dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "decoder": {
        "decoder_new": (ctypes.c_void_p, (ctypes.c_void_p,)),
        "decoder_delete": (None, (ctypes.c_void_p,)),
        "decoder_forward": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
        "decoder_generate": (ctypes.c_int, (
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int,
            ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
        )),
        "sample": (None, (ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_char_p,
                          ctypes.c_void_p)),
    },
    "training": {
        "training_new": (ctypes.c_void_p, (ctypes.c_void_p,)),
        "training_delete": (None, (ctypes.c_void_p,)),
        "training_step": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
        "muon_step": (ctypes.c_int, (ctypes.c_void_p,)),
        "causal_attention": (ctypes.c_int, (ctypes.c_void_p,)),
    },
}  # fmt: skip
"""Of each library: the types of the result and of the arguments."""
MAX_SECONDS = 120
"""Time after which a compilation counts as ended, however it did."""
# publishes the library only when it is complete, or else the compiler's messages
SCRIPT = """
umask 077
if nice "$@" -o "$PART" 2> "$LOG"
then mv "$PART" "$LIBRARY"; rm "$LOG"
else mv "$LOG" "$FAILED"
fi
"""


_num_threads: int | None = None
"""Of compiled code, where they are not PyTorch's."""


def num_threads() -> int:
    """How many threads compiled code uses."""
    return _num_threads or torch.get_num_threads()


@contextmanager
def single_threaded_pytorch() -> Iterator[None]:
    """PyTorch uses one thread, and compiled code as many as before: after an operation OpenMP's
    threads spin for a while, on the cores that compiled code needs next."""
    global _num_threads
    outside, _num_threads = _num_threads, num_threads()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _num_threads = outside


@dataclass
class _Loaded:
    """A library of this process: every token asks for it."""

    library: ctypes.CDLL | None = None
    next_look: float = -math.inf


_loaded = {name: _Loaded() for name in SOURCES}
SECONDS_BETWEEN_LOOKS = 1.0
"""Seconds until the next search while the library is missing."""


@cache
def compile_command() -> tuple[str, ...] | None:
    """The compiler and its flags; None without a compiler."""
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if os.name != "posix" or compiler is None:
        return None
    machine = platform.machine()
    native = "-march=native" if machine in ("x86_64", "AMD64", "i686") else "-mcpu=native"
    wide = ("-mprefer-vector-width=512",) if machine in ("x86_64", "AMD64") else ()
    return (compiler, *FLAGS, native, *wide)


def library_path(name: str = "decoder") -> Path | None:
    """Where a library for this machine is, or would be; None without a compiler."""
    command = compile_command()
    return None if command is None else _path(name, cache_folder(), command)


@cache
def _path(name: str, folder: Path, command: tuple[str, ...]) -> Path:
    compiler = Path(command[0]).resolve()
    parts = [*command[1:], str(compiler), str(compiler.stat().st_mtime_ns), _cpu_features()]
    digest = hashlib.sha256("\0".join(parts).encode())
    here = Path(__file__).parent
    headers = sorted(path for path in here.iterdir() if path.suffix == ".h")
    for source in (*headers, *(here / each for each in SOURCES[name])):
        digest.update(source.read_bytes())
    return folder / "native" / f"{name}-{digest.hexdigest()[:24]}.so"


def load_library(wait: bool = False, name: str = "decoder") -> ctypes.CDLL | None:
    """A library; None where there is none yet.

    Args:
        wait: until it is compiled, some seconds; by default that goes on in the background.
    """
    if os.environ.get("SCRIVEN_NATIVE") == "off":
        return None
    loaded = _loaded[name]
    if loaded.library is None and (wait or time.monotonic() > loaded.next_look):
        loaded.library = _find(name, wait)
        loaded.next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
    return loaded.library


def _find(name: str, wait: bool) -> ctypes.CDLL | None:
    path = library_path(name)
    if path is None:
        return None
    if not path.exists():
        process = _compile(name, path)
        if wait and process is not None:
            process.wait()
        while wait and _is_compiling(path):  # another process, or this one earlier
            time.sleep(0.05)
    return _open(name, path) if path.exists() else None


def _is_compiling(path: Path) -> bool:
    begun = path.with_suffix(".part")
    if path.exists() or path.with_suffix(".failed").exists() or not begun.exists():
        return False
    return time.time() - begun.stat().st_mtime < MAX_SECONDS


def state(name: str = "decoder") -> str:
    """What `scriven doctor` says of a library."""
    path = library_path(name)
    if path is None:
        return "none: no C++ compiler"
    if path.exists():
        return "compiled" if _open(name, path) else f"refused: {path} is not this user's alone"
    if failed := _failure(path):
        return f"the compiler failed: {failed}"
    return "not compiled yet"


@cache
def _open(name: str, path: Path) -> ctypes.CDLL | None:
    """Loads a library that nobody else can have written."""
    for place in (path, path.parent):
        status = place.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    for function, (result, arguments) in FUNCTIONS[name].items():
        getattr(library, function).restype = result
        getattr(library, function).argtypes = arguments
    return library


def _compile(name: str, path: Path) -> subprocess.Popen[bytes] | None:
    """Starts the compiler; None where another process has, or where it failed before."""
    command, begun = compile_command(), path.with_suffix(".part")
    assert command is not None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.with_suffix(".failed").exists():
            return None
        if begun.exists() and time.time() - begun.stat().st_mtime < MAX_SECONDS:
            return None
        begun.touch(mode=0o700)
        names = {
            "PART": f"{path}.{os.getpid()}", "LOG": f"{path}.{os.getpid()}.log",
            "LIBRARY": str(path), "FAILED": str(path.with_suffix(".failed")),
        }  # fmt: skip
        sources = [str(Path(__file__).parent / source) for source in SOURCES[name]]
        return subprocess.Popen(  # noqa: S603 - the compiler that was found on PATH
            ["/bin/sh", "-c", SCRIPT, "compile", *command, *sources],
            env={**os.environ, **names},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # goes on when this process ends
        )
    except OSError:  # a cache folder that cannot be written
        return None


def _failure(path: Path) -> str | None:
    try:
        return path.with_suffix(".failed").read_text(errors="replace").splitlines()[0][:200]
    except (OSError, IndexError):
        return None


def _cpu_features() -> str:
    """What the flag `native` depends on."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return platform.processor()


Settings = tuple[float, float, float, int]
"""Temperature (0: greedy), top-p, min-p and top-k (0: all) of a row."""
SETTINGS = struct.Struct("=dddqd")  # with the random number: `Sampling` in sampling.h


def pack_settings(settings: Sequence[Settings], uniforms: Sequence[float]) -> bytes:
    """The settings of each row, with its random number."""
    rows = zip(settings, uniforms, strict=True)
    return b"".join([SETTINGS.pack(*own, uniform) for own, uniform in rows])


def sample_natively(
    logits: Tensor, settings: Sequence[Settings], uniforms: Sequence[float]
) -> list[int] | None:
    """A token for each row of logits (B, V); -1 where none is finite. None: there is no library.

    Args:
        uniforms: for each row a number drawn evenly from [0, 1); any where it is greedy.
    """
    library = load_library()
    if library is None or logits.dtype != torch.float32 or logits.device.type != "cpu":
        return None
    logits = logits.contiguous()
    rows, vocab_size = logits.shape
    given = pack_settings(settings, uniforms)
    tokens = array("q", bytes(8 * rows))
    library.sample(logits.data_ptr(), rows, vocab_size, given, tokens.buffer_info()[0])
    return tokens.tolist()
