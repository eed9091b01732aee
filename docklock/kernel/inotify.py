"""inotify: be told of names that come and go in a directory.

Not here: what a name means (docklock.agent.supervisors). Source: inotify(7).
"""

from __future__ import annotations

import os
import struct

from docklock.kernel.call import syscall

IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_Q_OVERFLOW = 0x4000
_IN_CLOEXEC, _IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
_EVENT = struct.Struct("=iIII")  # struct inotify_event: wd, mask, cookie, length of the name
READ_BYTES = 65_536


def watch_directory(path: str) -> int:
    """A non-blocking descriptor that becomes readable when a name in `path` comes or goes."""
    fd = syscall("inotify_init1", f"watch {path}", _IN_CLOEXEC | _IN_NONBLOCK)
    try:
        mask = IN_CREATE | IN_DELETE | IN_MOVED_TO
        syscall("inotify_add_watch", f"watch {path}", fd, os.fsencode(path) + b"\0", mask)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_names(fd: int) -> tuple[list[str], bool]:
    """(the names that came or went, whether the kernel lost some: then all must be looked at)."""
    try:
        data = os.read(fd, READ_BYTES)
    except BlockingIOError:
        return [], False
    names, is_lost, at = [], False, 0
    while at < len(data):
        _, mask, _, size = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        name = data[at : at + size].rstrip(b"\0")
        at += size
        is_lost = is_lost or bool(mask & IN_Q_OVERFLOW)
        if name:
            names.append(os.fsdecode(name))
    return names, is_lost
