"""Pseudo-terminals by their ioctls: a pair of one's own devpts, its size, its session.

Not here: raw mode of the caller's terminal (docklock.cli.terminal), who reads and writes the master
(docklock.supervisor.terminal). Invariant: the slave is opened through its master (TIOCGPTPEER,
Linux >= 4.13), never by a name, which a container could have replaced.
Source: ioctl_tty(2), pty(7), Documentation/filesystems/devpts.rst; x86_64 and aarch64 agree.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from docklock.errors import KernelError
from docklock.kernel.call import make_error
from docklock.kernel.mount import (
    AT_FDCWD,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    try_openat2,
)

PTMX = "/dev/pts/ptmx"
SIZE_MAX = 0xFFFF  # rows and columns are unsigned shorts
_PTMX_DEVICE = os.makedev(5, 2)
_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_WINSIZE = struct.Struct("=4H")  # rows, columns, and two in pixels that nobody sets
_INT = struct.Struct("=i")


def open_pair() -> tuple[int, int]:
    """(master, slave) of a new terminal of this mount namespace's /dev/pts, both close-on-exec."""
    step = "make a terminal"
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
    master = try_openat2(AT_FDCWD, PTMX, flags, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)
    if master in (-errno.ENOENT, -errno.ELOOP, -errno.ENOTDIR):
        hint = f"a terminal needs the container's own devpts: {PTMX}"
        raise KernelError(-master, "openat2", step, hint)
    if master < 0:
        raise make_error(-master, "openat2", step)
    try:
        found = os.fstat(master)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX_DEVICE:
            raise KernelError(errno.ENOTTY, "openat2", step, f"{PTMX} is not the kernel's")
        _ioctl(master, _TIOCSPTLCK, _INT.pack(0), "TIOCSPTLCK", step)
        peer = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        return master, _ioctl(master, _TIOCGPTPEER, peer, "TIOCGPTPEER", step)
    except KernelError:
        os.close(master)
        raise


def set_controlling(slave: int) -> None:
    """Make it this session's terminal: Ctrl-C reaches its processes. The caller leads a session."""
    _ioctl(slave, _TIOCSCTTY, 0, "TIOCSCTTY", "make the terminal the session's")


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set the size; its foreground processes get SIGWINCH if that changed it. Both in 0..65535."""
    size = _WINSIZE.pack(rows, columns, 0, 0)
    _ioctl(fd, _TIOCSWINSZ, size, "TIOCSWINSZ", f"set the terminal to {rows} x {columns}")


def _ioctl(fd: int, request: int, argument: int | bytes, name: str, step: str) -> int:
    try:
        result = fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise KernelError(error.errno or 0, f"ioctl {name}", step) from None
    return result if isinstance(result, int) else 0
