"""How a process of the supervisor leaves the one that forked it: session, signals, descriptors."""

from __future__ import annotations

import os

from docklock.bare import signal
from docklock.supervisor.wire import STDERR

FDS_MAX = 1 << 20


def detach(*, keep_stdio: bool) -> None:
    """Leave the creator's session; without `keep_stdio`, its files as well."""
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    if not keep_stdio:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(STDERR + 1):
            os.dup2(null, fd)
        os.close(null)


def keep_only(fds: tuple[int, ...]) -> None:
    """Close every other descriptor."""
    last = -1
    for fd in sorted(fds):
        if fd > last + 1:  # os.closerange(0, 0) would close everything
            os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, FDS_MAX)
