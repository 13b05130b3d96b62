"""How this process treats the machine; to be settled before torch is loaded.

A GNU OpenMP thread that waits at the end of a parallel piece of work spins, by default for
milliseconds. When another program wants the core, the threads of one product then wait for each
other's turn, and training on a busy laptop falls to a twentieth. Ten thousand rounds are as fast on
an idle machine and several times faster on a busy one; a thousand are faster still there, but cost
an idle one a third. So a look at the machine decides. And glibc hands every large buffer back to
the system when it is freed, so that each operation on a megabyte pays for fresh pages; keeping them
is about a tenth faster (LOG.md).
"""

import ctypes
import os
import sys
import time
from pathlib import Path

SPINS = "10000"
SPINS_BUSY = "1000"
_LOOKS, _PAUSE = 5, 0.008

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt, see malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20


def settle() -> None:
    """Short spins and kept buffers; what the environment already says is respected."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        if "GOMP_SPINCOUNT" not in os.environ:
            os.environ["GOMP_SPINCOUNT"] = SPINS_BUSY if is_busy() else SPINS
    if not sys.platform.startswith("linux") or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, 256 << 20)
    mallopt(_TOP_PAD, 64 << 20)


def is_busy(stat: Path = Path("/proc/stat")) -> bool:
    """Whether others want a good part of the cores, at each of a few looks: what wakes up for a
    moment is no reason. False where the system does not tell."""
    try:
        return all(_others_run(stat) for _ in range(_LOOKS))
    except (OSError, ValueError, KeyError):
        return False


def _others_run(stat: Path) -> bool:
    time.sleep(_PAUSE)
    lines = map(str.split, stat.read_text(encoding="ascii").splitlines())
    told = {line[0]: line[1] for line in lines if len(line) > 1}
    cores = sum(name.startswith("cpu") for name in told) - 1  # the first line sums them up
    others = int(told["procs_running"]) - 1  # one of them is this process
    return others >= max(1, cores // 4)
