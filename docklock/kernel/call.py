"""The door to libc's syscall(2), and what an errno means to whoever reads it.

Invariants: no call releases the GIL (PyDLL), so that nothing else of this process runs between two
calls; every failure is a KernelError that names the call, the step and, where we know one, a
remedy. Not here: the calls themselves (process, mount, seccomp, bpf).
"""

from __future__ import annotations

import ctypes
import errno

from docklock.errors import KernelError
from docklock.kernel.numbers import get_number

Buffer = ctypes.Array[ctypes.c_char]
Pointer = int | bytes | Buffer | None

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
# c_void_p takes integers (masked to 64 bits), bytes and buffers alike.
_syscall.argtypes = (ctypes.c_long,) + (ctypes.c_void_p,) * 6

_HINTS_BY_CALL: dict[tuple[str, int], str] = {
    ("clone3", errno.ENOSPC): "a namespace limit is reached; raise /proc/sys/user/max_*_namespaces",
    ("clone3", errno.EAGAIN): "no more processes: ulimit -u, kernel.pid_max or the pids cgroup",
    ("clone3", errno.EBUSY): "the cgroup has children or controllers that forbid processes in it",
    ("unshare", errno.ENOSPC): "raise /proc/sys/user/max_*_namespaces",
    ("setns", errno.EINVAL): "the file is no namespace of this type, or its process has ended",
    ("mount", errno.ENODEV): "this kernel has no such file system; load its module",
    ("fsopen", errno.ENODEV): "this kernel has no such file system; load its module",
    ("mount", errno.EBUSY): "it is mounted already, or upperdir is in use by another container",
    ("mount", errno.EINVAL): "a mount option is wrong, or the overlay's layers overlap",
    ("openat2", errno.ELOOP): "a symbolic link stands where the container's root must have none",
    ("openat2", errno.EXDEV): "the path leaves the container's root",
    ("pivot_root", errno.EINVAL): "the new root is no mount point, or its parent mount is shared",
    ("seccomp", errno.EACCES): "without no_new_privs a filter needs CAP_SYS_ADMIN",
    ("seccomp", errno.EBUSY): "another filter of this process has a listener already",
    ("seccomp", errno.EINVAL): "the program is no valid filter, or this kernel lacks a flag",
    ("seccomp", errno.ENOMEM): "the filters of this process exceed 32768 instructions",
    ("capset", errno.EPERM): "a capability is asked for that this process does not have",
    ("pidfd_getfd", errno.EPERM): "ptrace access to the process is refused (yama, user namespace)",
    ("mlock", errno.ENOMEM): "too little may be locked in memory: raise ulimit -l (64 is enough)",
    ("mlock", errno.EPERM): "nothing may be locked in memory: raise ulimit -l (64 is enough)",
    ("bpf", errno.EPERM): "needs CAP_BPF or CAP_SYS_ADMIN",
}

_HINTS: dict[int, str] = {
    errno.EPERM: "needs root with CAP_SYS_ADMIN; docklock may run inside another container",
    errno.ENOSYS: "this kernel is too old, or a seccomp filter around docklock forbids the call",
    errno.EMFILE: "too many open files: raise ulimit -n",
    errno.ENFILE: "the system has too many open files: raise fs.file-max",
    errno.ENOSPC: "a kernel limit is reached: fs.mount-max, user.max_*_namespaces or the disk",
}


def syscall(
    name: str,
    step: str,
    a: Pointer = 0,
    b: Pointer = 0,
    c: Pointer = 0,
    d: Pointer = 0,
    e: Pointer = 0,
) -> int:
    """Call `name` and return its result; KernelError, with `step` as what was meant, on failure."""
    result: int = _syscall(get_number(name), a, b, c, d, e, 0)
    if result == -1:
        raise make_error(ctypes.get_errno(), name, step)
    return result


def try_syscall(
    name: str, a: Pointer = 0, b: Pointer = 0, c: Pointer = 0, d: Pointer = 0, e: Pointer = 0
) -> int:
    """As syscall, but a failure is returned as the negative errno, as the kernel does."""
    result: int = _syscall(get_number(name), a, b, c, d, e, 0)
    return -ctypes.get_errno() if result == -1 else result


def make_error(number: int, call: str, step: str) -> KernelError:
    """A KernelError with the best hint known for this call and errno."""
    hint = _HINTS_BY_CALL.get((call, number)) or _HINTS.get(number, "")
    return KernelError(number, call, step, hint)


def make_buffer(data: bytes) -> Buffer:
    """A writable C buffer that holds `data`, without a closing NUL."""
    return ctypes.create_string_buffer(data, len(data) or 1)


def get_address(buffer: Buffer) -> int:
    """Where `buffer` lies; valid as long as the buffer is referenced."""
    return ctypes.addressof(buffer)


def make_string_array(strings: tuple[bytes, ...]) -> Buffer:
    """A NULL-terminated char *[] as execve wants it, in one buffer with the strings behind it."""
    table = (len(strings) + 1) * 8
    buffer = make_buffer(b"\0" * table + b"".join(text + b"\0" for text in strings))
    at = ctypes.addressof(buffer) + table
    addresses = []
    for text in strings:
        addresses.append(at)
        at += len(text) + 1
    ctypes.memmove(buffer, b"".join(n.to_bytes(8, "little") for n in addresses), table - 8)
    return buffer


def fork_hooks() -> tuple[ctypes._NamedFuncPointer, ...]:
    """CPython's PyOS_BeforeFork, PyOS_AfterFork_Parent and PyOS_AfterFork_Child."""
    api = ctypes.pythonapi
    return api.PyOS_BeforeFork, api.PyOS_AfterFork_Parent, api.PyOS_AfterFork_Child
