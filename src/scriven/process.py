"""Settings of OpenMP and malloc, which must be made before torch is loaded.

At the end of each parallel region a thread of GNU OpenMP waits by spinning, by default for
milliseconds. When another program wants the core, the threads of one matrix multiplication wait for
each other's time slice, and training on a busy laptop slows down twentyfold. 10,000 spins are as
fast on an idle machine and several times faster on a busy one; 1,000 are faster still on a busy
one, but cost an idle one a third, so they are used only where other programs run now.

glibc returns every large buffer to the system when it is freed, so each operation on a megabyte
pays for page faults; keeping freed buffers makes training about 10 % faster (LOG.md).
"""

import ctypes
import os
import sys
import time
from pathlib import Path

SPINS = "10000"
SPINS_BUSY = "1000"
_SAMPLES, _PAUSE_SECONDS = 5, 0.008

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt, see malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20


def configure_threads_and_malloc() -> None:
    """Shortens the spins of OpenMP threads and lets malloc keep freed buffers.

    Environment variables that set either are respected.
    """
    # libgomp reads its variables once, when torch loads it
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        if "GOMP_SPINCOUNT" not in os.environ:
            os.environ["GOMP_SPINCOUNT"] = SPINS_BUSY if is_busy() else SPINS
    if not sys.platform.startswith("linux") or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # a C library without mallopt
    # buffers below this size come from the heap, which keeps them when they are freed
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, 256 << 20)
    mallopt(_TOP_PAD, 64 << 20)


def is_busy(stat: Path = Path("/proc/stat")) -> bool:
    """Whether other programs run on a quarter of the cores at each of a few samples, so that a
    short wakeup does not count. False where the system does not tell."""
    for _ in range(_SAMPLES):
        time.sleep(_PAUSE_SECONDS)
        try:
            # /proc/stat: one line `cpuN ...` for each core, and `procs_running N`
            lines = map(str.split, stat.read_text(encoding="ascii").splitlines())
            values = {line[0]: line[1] for line in lines if len(line) > 1}
            others = int(values["procs_running"]) - 1  # one of them is this process
        except (OSError, ValueError, KeyError):
            return False
        cores = sum(name.startswith("cpu") for name in values) - 1  # the line `cpu` is their sum
        if others < max(1, cores // 4):
            return False
    return True
