"""System call numbers of the two architectures docklock runs on.

Numbers from 424 on are the same everywhere. Source: arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h. Names for policies are docklock.policy's, not this table's.
"""

from __future__ import annotations

import os

from docklock.errors import KernelError

_ENOSYS = 38

# name: (x86_64, aarch64)
BY_NAME: dict[str, tuple[int, int]] = {
    "bpf": (321, 280),
    "capget": (125, 90),
    "capset": (126, 91),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "inotify_add_watch": (254, 27),
    "inotify_init1": (294, 26),
    "madvise": (28, 233),
    "mlock": (149, 228),
    "mmap": (9, 222),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "seccomp": (317, 277),
    "setgroups": (116, 159),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setresgid": (119, 149),
    "setresuid": (117, 147),
    "socket": (41, 198),
    "umount2": (166, 39),
    "unshare": (272, 97),
}

_MACHINES = {"x86_64": 0, "aarch64": 1}
MACHINE = os.uname().machine


def get_number(name: str) -> int:
    """The number of a call on this machine; KernelError(ENOSYS) on any other architecture."""
    column = _MACHINES.get(MACHINE)
    if column is None:
        raise KernelError(_ENOSYS, name, f"look up its number on {MACHINE}", "x86_64 or aarch64")
    return BY_NAME[name][column]
