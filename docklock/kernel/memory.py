"""Read another process's memory, and ask which process a thread belongs to.

Source: process_vm_readv(2), tgkill(2). What is read was the container's to change a moment later:
callers label it `claimed`.
"""

from __future__ import annotations

import ctypes
import os

PAGE_BYTES = 4096
KEPT_NS = 1_000_000
CHUNK_BYTES = 256  # most paths end within it; one small copy is cheaper than a page


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_readv = ctypes.PyDLL(None).process_vm_readv
_readv.restype = ctypes.c_ssize_t
# 0 if thread tid belongs to process tgid now: tgkill(tgid, tid, 0). Without argtypes and errno a
# call costs 0.55 us instead of 0.83, and the gate makes one for each notification.
tgkill = ctypes.PyDLL(None).tgkill

_one = ctypes.c_ulong(1)
_none = ctypes.c_ulong(0)


class CallerMemory:
    """Reads what callers point to. One for each thread that reads: its buffer is its own.

    process_vm_readv costs 2.6 us, a read of an open /proc/TID/mem 1.1, opening it 5. So the memory
    of a thread that calls again and again stays open for KEPT_NS. After an execve it would be the
    old program's: whoever keeps it must call `forget` at every call that may be one.
    """

    def __init__(self, *, may_keep: bool) -> None:
        """`may_keep`: every call that executes a program is seen, and `forget` called."""
        self._buffer = ctypes.create_string_buffer(PAGE_BYTES)
        self._view = memoryview(self._buffer).cast("B")
        self._local = _Iovec(ctypes.addressof(self._buffer), PAGE_BYTES)
        self._remote = _Iovec(0, 0)
        self._local_ref = ctypes.c_void_p(ctypes.addressof(self._local))
        self._remote_ref = ctypes.c_void_p(ctypes.addressof(self._remote))
        self._may_keep = may_keep
        self._last_tid = self._fd = -1
        self._kept_tid = 0
        self._until_ns = 0

    def look_at(self, tid: int, now_ns: int) -> None:
        """Before reading: the caller is `tid`, at `now_ns` of CLOCK_MONOTONIC."""
        if tid == self._kept_tid and now_ns < self._until_ns:
            return
        is_again = tid == self._last_tid
        self.forget()
        if is_again and self._may_keep:
            try:
                self._fd = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return  # it has just died, or is another user's: the other way says so
            self._kept_tid, self._until_ns = tid, now_ns + KEPT_NS
        self._last_tid = tid

    def forget(self) -> None:
        """Keep nobody's memory open."""
        if self._kept_tid:
            os.close(self._fd)
        self._kept_tid = 0
        self._last_tid = -1

    def read_memory(self, tid: int, address: int, size: int) -> bytes:
        """Up to `size` (at most 4096) bytes at `address`; fewer where mapping or page ends."""
        count = self._read(tid, address, size)
        return bytes(self._view[:count]) if count > 0 else b""

    def read_string(self, tid: int, address: int, size_max: int) -> bytes | None:
        """The bytes before the NUL at `address`, cut at `size_max`; None when unreadable."""
        if tid == self._kept_tid:
            try:
                end = (found := os.pread(self._fd, CHUNK_BYTES, address)).find(0)
            except (OSError, OverflowError):
                end = -1
            if end >= 0:  # it ends here, as most do
                return found[: min(end, size_max)]
        found, size = b"", CHUNK_BYTES
        while len(found) < size_max:
            piece = self.read_memory(tid, address + len(found), size)
            if not piece:
                return None
            end = piece.find(0)
            if end >= 0:
                return (found + piece[:end])[:size_max]
            found += piece
            size = PAGE_BYTES
        return found[:size_max]

    def _read(self, tid: int, address: int, size: int) -> int:
        """Fill the buffer, at most to the end of the page at `address`; how many bytes, or -1."""
        self._remote.base = address
        self._remote.length = min(size, PAGE_BYTES - address % PAGE_BYTES)
        return int(_readv(tid, self._local_ref, _one, self._remote_ref, _one, _none))
