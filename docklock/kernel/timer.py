"""A timer that is a descriptor (os.timerfd_create is Python 3.13's). Source: timerfd_create(2)."""

from __future__ import annotations

import os
import struct

from docklock.kernel.call import get_address, make_buffer, syscall

CLOCK_MONOTONIC = 1
NS_PER_S = 1_000_000_000
_ITIMERSPEC = struct.Struct("=4q")  # interval s, ns; first s, ns


def make_timer(interval_ns: int) -> int:
    """A non-blocking descriptor, readable every `interval_ns` from now on."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    fd = syscall("timerfd_create", "make a timer", CLOCK_MONOTONIC, flags)
    try:
        set_timer(fd, interval_ns)
    except OSError:
        os.close(fd)
        raise
    return fd


def set_timer(fd: int, interval_ns: int) -> None:
    """Have it fire every `interval_ns` from now on; firings that nobody has read are forgotten."""
    seconds, rest_ns = divmod(interval_ns, NS_PER_S)
    spec = make_buffer(_ITIMERSPEC.pack(seconds, rest_ns, seconds, rest_ns))
    syscall("timerfd_settime", "set a timer", fd, 0, get_address(spec), 0)


def read_timer(fd: int) -> int:
    """How often it has fired since the last read."""
    try:
        return int.from_bytes(os.read(fd, 8), "little")
    except BlockingIOError:
        return 0
