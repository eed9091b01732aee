"""seccomp(2): install a filter with a listener, and the layout of what the listener exchanges.

Not here: programs (docklock.policy), answering notifications (docklock.capture.gate).
Source: seccomp(2), seccomp_unotify(2), include/uapi/linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import partial
from docklock.errors import KernelError
from docklock.kernel.call import get_address, make_buffer, make_error, syscall, try_syscall

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

SET_MODE_FILTER = 1
GET_NOTIF_SIZES = 3
FLAG_NEW_LISTENER = 8
FLAG_WAIT_KILLABLE_RECV = 32

# ioctl(2) requests on the listener; both architectures encode direction and size alike.
NOTIF_RECV = 0xC0502100
NOTIF_SEND = 0xC0182101
NOTIF_ID_VALID = 0x40082102
NOTIF_ADDFD = 0x40182103
NOTIF_SET_FLAGS = 0x40082104

USER_NOTIF_FD_SYNC_WAKE_UP = 1
USER_NOTIF_FLAG_CONTINUE = 1
ADDFD_FLAG_SETFD = 1
ADDFD_FLAG_SEND = 2

# struct seccomp_notif: id, pid, flags, then seccomp_data: nr, arch, instruction pointer, 6 args.
NOTIF = struct.Struct("=QIIiIQ6Q")
NOTIF_SIZE_BYTES = 80
NOTIF_ARGS_OFFSET = 32
# struct seccomp_notif_resp: id, val, error (negative errno), flags.
NOTIF_RESP = struct.Struct("=QqiI")
NOTIF_ID = struct.Struct("=Q")
# struct seccomp_notif_addfd: id, flags, srcfd, newfd, newfd_flags.
NOTIF_ADD = struct.Struct("=QIIII")
# struct sock_filter: code, jt, jf, k.
INSTRUCTION = struct.Struct("<HBBI")
PROGRAM_MAX_INSTRUCTIONS = 4096


_ioctl = ctypes.CDLL(None).ioctl  # frees the GIL while it waits


class Filter(NamedTuple):
    """A struct sock_fprog laid out beforehand, so that seccomp(2) alone is left to do."""

    header: object
    program: object


def prepare_filter(program: bytes) -> Filter:
    """Lay out `program`, an array of struct sock_filter."""
    count, rest = divmod(len(program), INSTRUCTION.size)
    if rest or not 1 <= count <= PROGRAM_MAX_INSTRUCTIONS:
        raise make_error(errno.EINVAL, "seccomp", f"a filter of {len(program)} bytes")
    body = make_buffer(program)
    return Filter(make_buffer(struct.pack("=H6xQ", count, get_address(body))), body)


def try_install(prepared: Filter, flags: int) -> int:
    """Install it for this thread: the listener's descriptor, 0 without one, or a negative errno."""
    return try_syscall("seccomp", SET_MODE_FILTER, flags, prepared.header)  # type: ignore[arg-type]


def make_install_error(number: int) -> KernelError:
    """What to raise for the negative result of try_install."""
    return make_error(number, "seccomp", "install the filter")


def get_listener_flags() -> int:
    """NEW_LISTENER, with WAIT_KILLABLE_RECV where the kernel (>= 5.19) has it.

    A null program is refused with EFAULT when the flags are known, with EINVAL when not.
    """
    flags = FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV
    known = try_syscall("seccomp", SET_MODE_FILTER, flags, None) == -errno.EFAULT
    return flags if known else FLAG_NEW_LISTENER


def make_receiver(listener: int, mapped: mmap, offset: int) -> Callable[[], int]:
    """A function that receives the next notification into `mapped` at `offset`; 0, or -1.

    The kernel writes there itself, so a notification is never in this process's own memory alone,
    as it would be with fcntl.ioctl, which copies (or keeps the GIL while it waits). Before a call
    the 80 bytes must be zero. -1: the caller died, a signal came, or the filter has no task left.
    """
    place = (ctypes.c_char * NOTIF.size).from_buffer(mapped, offset)
    receive: Callable[[], int] = partial(
        _ioctl,
        ctypes.c_int(listener),
        ctypes.c_ulong(NOTIF_RECV),
        ctypes.c_void_p(ctypes.addressof(place)),
    )
    return receive


def check_notif_sizes() -> None:
    """Raise KernelError unless the kernel's notification structs are those laid out here."""
    sizes = make_buffer(bytes(6))
    syscall("seccomp", "read the size of notifications", GET_NOTIF_SIZES, 0, sizes)
    found = struct.unpack("=3H", sizes.raw)
    if found[:2] != (NOTIF.size, NOTIF_RESP.size):
        hint = f"this kernel's notifications have {found} bytes; docklock knows 80 and 24"
        raise KernelError(errno.EINVAL, "seccomp", "read the size of notifications", hint)
