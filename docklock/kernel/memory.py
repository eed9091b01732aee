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


_readv = ctypes.PyDLL(None).process_vm_readv
_readv.restype = ctypes.c_ssize_t
# 0 if thread tid belongs to process tgid now: tgkill(tgid, tid, 0). Without argtypes and errno a
# call costs 0.55 us instead of 0.83, and the gate makes one for each notification.
tgkill = ctypes.PyDLL(None).tgkill

_buffer = ctypes.create_string_buffer(PAGE_BYTES)
_view = memoryview(_buffer).cast("B")
_local = _Iovec(ctypes.addressof(_buffer), PAGE_BYTES)
_remote = _Iovec(0, 0)
_local_ref = ctypes.c_void_p(ctypes.addressof(_local))
_remote_ref = ctypes.c_void_p(ctypes.addressof(_remote))
_one = ctypes.c_ulong(1)
_none = ctypes.c_ulong(0)


def _read(tid: int, address: int, size: int) -> int:
    """Fill the buffer, at most to the end of the page at `address`; how many bytes, or -1."""
    _remote.base = address
    _remote.length = min(size, PAGE_BYTES - address % PAGE_BYTES)
    return int(_readv(tid, _local_ref, _one, _remote_ref, _one, _none))


def read_memory(tid: int, address: int, size: int) -> bytes:
    """Up to `size` (at most 4096) bytes at `address`; fewer where the mapping or the page ends."""
    count = _read(tid, address, size)
    return bytes(_view[:count]) if count > 0 else b""


def read_string(tid: int, address: int, size_max: int) -> bytes | None:
    """The bytes before the NUL at `address`, cut at `size_max`; None when unreadable."""
    count = _read(tid, address, CHUNK_BYTES)
    found = _buffer.value
    if len(found) < count:  # it ends here, as most do
        return found[:size_max]
    if count <= 0:
        return None
    found = bytes(_view[:count])
    while len(found) < size_max:
        piece = read_memory(tid, address + len(found), PAGE_BYTES)
        if not piece:
            return None
        end = piece.find(0)
        if end >= 0:
            return (found + piece[:end])[:size_max]
        found += piece
    return found[:size_max]
