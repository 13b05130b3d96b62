"""How this process treats the machine; to be settled before torch is loaded.

A GNU OpenMP thread that waits at the end of a parallel piece of work spins, by default for
milliseconds. When another program wants the core, the threads of one product then wait for each
other's turn, and training on a busy laptop falls to a twentieth. Ten thousand rounds are as fast on
an idle machine and several times faster on a busy one; a thousand cost an idle one a third. And
glibc hands every large buffer back to the system when it is freed, so that each operation on a
megabyte pays for fresh pages; keeping them is about a tenth faster (LOG.md).
"""

import ctypes
import os
import sys

SPINS = "10000"

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt, see malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20


def settle() -> None:
    """Short spins and kept buffers; what the environment already says is respected."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if not sys.platform.startswith("linux") or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, 256 << 20)
    mallopt(_TOP_PAD, 64 << 20)
