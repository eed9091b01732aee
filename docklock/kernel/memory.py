"""Read another process's memory, and ask which process a thread belongs to.

Source: process_vm_readv(2), tgkill(2). What is read was the container's to change a moment later:
callers label it `claimed`.
"""

from __future__ import annotations

import ctypes

PAGE_BYTES = 4096
CHUNK_BYTES = 256  # most paths end within it; one small copy is cheaper than a page


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.PyDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_readv.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
)
# 0 if thread tid belongs to process tgid now: tgkill(tgid, tid, 0). Without argtypes and errno a
# call costs 0.55 us instead of 0.83, and the gate makes one for each notification.
tgkill = ctypes.PyDLL(None).tgkill

_buffer = ctypes.create_string_buffer(PAGE_BYTES)
_view = memoryview(_buffer).cast("B")
_local = _Iovec(ctypes.addressof(_buffer), PAGE_BYTES)
_remote = _Iovec(0, 0)
_local_ref = ctypes.addressof(_local)
_remote_ref = ctypes.addressof(_remote)


def read_memory(tid: int, address: int, size: int) -> bytes:
    """Up to `size` (at most 4096) bytes at `address`; fewer where the mapping or the page ends."""
    size = min(size, PAGE_BYTES - address % PAGE_BYTES)
    _remote.base = address
    _remote.length = size
    count = _readv(tid, _local_ref, 1, _remote_ref, 1, 0)
    return bytes(_view[:count]) if count > 0 else b""


def read_string(tid: int, address: int, size_max: int) -> bytes | None:
    """The bytes before the NUL at `address`, cut at `size_max`; None when unreadable."""
    found = b""
    size = CHUNK_BYTES
    while len(found) < size_max:
        piece = read_memory(tid, address + len(found), size)
        if not piece:
            return None
        end = piece.find(0)
        if end >= 0:
            return (found + piece[:end])[:size_max]
        found += piece
        size = PAGE_BYTES
    return found[:size_max]
