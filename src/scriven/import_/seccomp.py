"""A seccomp filter (Linux 3.5) that leaves a process the system calls of reading, computing and
writing with the descriptors it has, and refuses all others: fork, connect, chmod, kill, ptrace."""

import contextlib
import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Sequence

NAMES = """
    read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn
    pread64 readv writev sched_yield mremap madvise getpid exit fsync fdatasync gettimeofday
    getrusage sysinfo gettid futex sched_getaffinity clock_gettime exit_group newfstatat
    set_robust_list getrandom membarrier rseq
""".split()  # noqa: SIM905
"""Everything that the child needs; newfstatat is how the C library implements fstat."""

NUMBERS = {
    "x86_64": (0xC000003E, """
        0 1 3 5 8 9 10 11 12 13 14 15 17 19 20 24 25 28 39 60 74 75 96
        98 99 186 202 204 228 231 262 273 318 324 334"""),
    "aarch64": (0xC00000B7, """
        63 64 57 80 62 222 226 215 214 134 135 139 67 65 66 124 216 233 172 93 82 83 169
        165 179 178 98 123 113 94 79 99 278 283 293"""),
}  # fmt: skip
"""For each machine its number in linux/audit.h, and those of the calls in the order of NAMES."""

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""Instructions of linux/bpf_common.h: load a word, compare it with a constant, return."""
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
"""Refused calls fail with EPERM, so that the child can still say what went wrong."""


def build_filter(audit_arch: int, numbers: Sequence[int]) -> bytes:
    """The BPF program: struct sock_filter {u16 code; u8 if_true, if_false; u32 k;} each.

    Jumps count the instructions that are skipped. The data of the program is struct seccomp_data:
    the number of the call at byte 0 and the machine at byte 4.
    """
    allow = len(numbers) + 1  # from the first comparison of numbers to the last instruction
    program = [
        (LOAD, 0, 0, 4),
        # a call in the numbering of another machine (32-bit on 64-bit) is refused
        (JUMP_IF_EQUAL, 1, 0, audit_arch),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, 0),
        *((JUMP_IF_EQUAL, allow - at - 1, 0, number) for at, number in enumerate(numbers)),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in program)


def deny_system_calls() -> None:
    """Refuses every system call that is not in NAMES, where the machine and the kernel are known.

    Irrevocable; to be called last, since limits and Landlock cannot be set afterwards.
    """
    if sys.platform != "linux" or platform.machine() not in NUMBERS:
        return
    audit_arch, numbers = NUMBERS[platform.machine()]
    program = build_filter(audit_arch, [int(number) for number in numbers.split()])
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog {unsigned short len; struct sock_filter *filter;}
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0)
