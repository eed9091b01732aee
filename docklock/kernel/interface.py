"""Bring a network interface of this network namespace up.

Not here: any other networking (a later room). Source: netdevice(7).
"""

from __future__ import annotations

import fcntl
import os
import struct

from docklock.errors import KernelError
from docklock.kernel.call import syscall

_AF_INET = 2
_SOCK_DGRAM_CLOEXEC = 2 | 0o2000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("=16sh22x")


def set_interface_up(name: str) -> None:
    """Set IFF_UP on `name`."""
    step = f"bring the interface {name} up"
    fd = syscall("socket", step, _AF_INET, _SOCK_DGRAM_CLOEXEC, 0)
    try:
        request = _IFREQ.pack(name.encode(), 0)
        flags = _IFREQ.unpack(fcntl.ioctl(fd, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(fd, _SIOCSIFFLAGS, _IFREQ.pack(name.encode(), flags | _IFF_UP))
    except OSError as error:
        raise KernelError(error.errno or 0, "ioctl SIOCSIFFLAGS", step) from None
    finally:
        os.close(fd)
