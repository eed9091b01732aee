"""Pages for secrets: locked, between two guard pages, in no core dump and in no forked child.

Not here: what lies in them (chainlite.keys), and erasing it, which comes before `release`.
Invariants: a page is whole or an error (no page without its lock); a process that has one is not
dumpable; a child that is forked has no copy (MADV_DONTFORK), and is refused by `check_owner`.
Source: mlock(2), madvise(2), mprotect(2), prctl(2) PR_SET_DUMPABLE.
"""

from __future__ import annotations

import os

from chainlite.errors import StateError
from docklock.errors import KernelError
from docklock.kernel.call import syscall
from docklock.kernel.process import set_dumpable

PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_PROT_NONE, _PROT_READ_WRITE = 0, 3
_MAP_PRIVATE_ANONYMOUS = 0x22
_MADV_DONTFORK, _MADV_DONTDUMP = 10, 16


class GuardedPage:
    """One page of zeros at `address`, for its process alone, until `release`."""

    __slots__ = ("_owner", "_start", "address")

    def __init__(self, start: int) -> None:
        """For `make_guarded_page` alone; `start` is the guard page before it."""
        self._start, self._owner = start, os.getpid()
        self.address = start + PAGE_BYTES

    def check_owner(self) -> None:
        """StateError in any process but the one that made the page: there it does not exist."""
        if os.getpid() != self._owner:
            raise StateError("a key in guarded memory stays with the process that made it")

    def release(self) -> None:
        """Give the page back; nobody may touch `address` from now on."""
        self.check_owner()
        syscall("munmap", "release guarded memory", self._start, 3 * PAGE_BYTES)


def make_guarded_page() -> GuardedPage:
    """A page of zeros; KernelError if it cannot be locked. This process is not dumpable then."""
    set_dumpable(dumpable=False)
    step, size = "make guarded memory", 3 * PAGE_BYTES
    start = syscall("mmap", step, 0, size, _PROT_NONE, _MAP_PRIVATE_ANONYMOUS, -1)
    try:
        page = start + PAGE_BYTES
        syscall("mprotect", step, page, PAGE_BYTES, _PROT_READ_WRITE)
        syscall("madvise", step, page, PAGE_BYTES, _MADV_DONTDUMP)
        syscall("madvise", step, page, PAGE_BYTES, _MADV_DONTFORK)
        syscall("mlock", "lock a key's page in memory", page, PAGE_BYTES)
    except KernelError:
        syscall("munmap", "release guarded memory", start, size)
        raise
    return GuardedPage(start)
