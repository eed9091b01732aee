"""A timer as a descriptor (timerfd), for loops that know nothing but descriptors.

Python has it from 3.13 on. Source: timerfd_create(2). Times are of the monotonic clock.
"""

from __future__ import annotations

import os
import struct

from docklock.kernel.call import make_buffer, syscall

_CLOCK_MONOTONIC = 1
_NANOSECONDS = 1_000_000_000
_SPEC = struct.Struct("=4q")  # struct itimerspec: interval, then value; each seconds, nanoseconds


def make_timer() -> int:
    """The descriptor of a timer that is not set; non-blocking, close-on-exec."""
    flags = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are these
    return syscall("timerfd_create", "make a timer", _CLOCK_MONOTONIC, flags)


def set_timer(fd: int, after_s: float) -> None:
    """Have `fd` be readable once, `after_s` from now; 0 unsets it. Below 1 ns is 1 ns."""
    after_ns = max(1, int(after_s * _NANOSECONDS)) if after_s else 0
    spec = make_buffer(_SPEC.pack(0, 0, *divmod(after_ns, _NANOSECONDS)))
    syscall("timerfd_settime", "set a timer", fd, 0, spec)


def clear_timer(fd: int) -> None:
    """Make it unreadable until it runs out again."""
    try:
        os.read(fd, 8)
    except BlockingIOError:
        pass
