"""How the kernel tells that it killed for want of memory, or refused a process for its limit.

v2: POLLPRI on memory.events and pids.events. v1: an eventfd registered for memory.oom_control, and
nothing for pids.events (Linux 6.18 counts there and notifies nobody): whoever wants to know must
look. The counts themselves are Cgroup.count_events. On v1 the eventfd is signalled before the kill
is counted, and not at all for a kill because the whole host lacks memory.
Source: cgroup-v2.rst; cgroup-v1/memory.rst, section 10 and cgroup-v1/pids.rst.
"""

from __future__ import annotations

import os
import select

from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from docklock.cgroup.driver import Cgroup

PRIORITY, READ = select.EPOLLPRI, select.EPOLLIN
_READ_BYTES_MAX = 4096


class Notifier(NamedTuple):
    """`fd` is ready for `mask` when something may have been counted. `kept` must stay open, too."""

    fd: int
    mask: int
    kept: int = -1
    is_early: bool = False  # it tells before it counts

    def clear(self) -> None:
        """Be ready only for what comes from now on."""
        if self.mask == PRIORITY:
            os.pread(self.fd, _READ_BYTES_MAX, 0)
        else:
            os.eventfd_read(self.fd)

    def close(self) -> None:
        for fd in (self.fd, self.kept):
            if fd >= 0:
                os.close(fd)


def open_notifiers(cgroup: Cgroup) -> list[Notifier]:
    """All that this host's kernel offers for `cgroup`. OSError, and none is left open."""
    found: list[Notifier] = []
    try:
        memory = cgroup.find_dir("memory")
        if memory:
            found.append(_register_v1(memory))
        elif os.path.exists(f"{cgroup.unified}/memory.events"):
            found.append(_open_v2(f"{cgroup.unified}/memory.events"))
        if not cgroup.find_dir("pids") and os.path.exists(f"{cgroup.unified}/pids.events"):
            found.append(_open_v2(f"{cgroup.unified}/pids.events"))
    except OSError:
        for notifier in found:
            notifier.close()
        raise
    return found


def has_silent_limit(cgroup: Cgroup) -> bool:
    """Whether there is a process limit of which no notifier tells (v1)."""
    pids = cgroup.find_dir("pids")
    if not pids:
        return False
    with open(f"{pids}/pids.max", "rb") as file:
        return file.read().strip() != b"max"


def _open_v2(path: str) -> Notifier:
    notifier = Notifier(os.open(path, os.O_RDONLY | os.O_CLOEXEC), PRIORITY)
    notifier.clear()  # what was counted before is no news
    return notifier


def _register_v1(directory: str) -> Notifier:
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    notifier = Notifier(eventfd, READ)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        notifier = Notifier(eventfd, READ, control, is_early=True)
        with open(f"{directory}/cgroup.event_control", "wb", buffering=0) as file:
            file.write(f"{eventfd} {control}".encode())
    except OSError:
        notifier.close()
        raise
    return notifier
